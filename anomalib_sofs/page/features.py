"""Features and first opinions of windows, kept on disk: a correction recomputes decisions only.

The backbone takes most of the time of a query and knows nothing of the support set, so what it extracts is kept, by the
content of the window. Half precision: logits then differ by about 0.002. So is the opinion of the head's networks, by
window and support set: rejected regions change what is made of it afterwards, not the opinion. And so is how far an
image is from good ones, by image and good ones.
"""

import hashlib
import logging
import shutil
from collections import deque
from collections.abc import Callable, Collection
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

from safetensors.torch import load_file, save
from torch import Tensor

from anomalib_sofs.annotations.notices import warn_once
from anomalib_sofs.model.encoding import Encoding, SupportEncoding
from anomalib_sofs.model.normality.detector import AnomalyDetector
from anomalib_sofs.model.relation.head import RelationHead
from anomalib_sofs.model.support import SupportSet
from anomalib_sofs.model.support_crops import digest
from anomalib_sofs.model.torch_model import SofsModel
from anomalib_sofs.results.files import UnwritableError, written_whole

logger = logging.getLogger(__name__)

Features = list[Tensor]
FEATURES, OPINIONS, DEVIATIONS = "features", "opinions", "deviations"
CONTRASTS = 3
"""That are used at a time: all good images, and either half of them."""
SPARE = 2**30
"""Bytes of the disk that are left to others."""


class Kept(list[Tensor]):
    """Features that know the window that they come from."""

    key = ""


class FeatureStore:
    """Keeps tensors in files of a folder, up to a number of bytes; what comes first stays.

    The images of a folder are gone through in one order again and again: making room for the last by dropping the
    first would leave nothing that is ever found again.

    Args:
        folder: The folder, which belongs to the store.
        most: Bytes of all its files.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self.folder = folder
        self.most = most
        self.support: str | None = None
        self._used = _bytes_in(folder)

    def kept(self, kind: str, key: str, compute: Callable[[], Features]) -> Features:
        """Return the tensors of a key, computed the first time: both times in half precision, as float32."""
        file = self.folder / kind / f"{key}.safetensors"
        try:
            halves = [value for _, value in sorted(load_file(file).items())]
        except (OSError, ValueError, RuntimeError):  # not there, or a disk that fails
            halves = [value.half().contiguous() for value in compute()]
            self._save(file, halves)
        except Exception as error:  # noqa: BLE001 - safetensors has an error class of its own for broken files
            logger.warning("%s cannot be read (%s); it is made anew.", file, error)
            halves = [value.half().contiguous() for value in compute()]
        return [value.float() for value in halves]

    def keep_opinions(self, support: str | None) -> None:
        """Keep the opinions that follow from a support set, and delete those that follow from another one.

        Args:
            support: What stands for it, rejected regions left out; ``None`` keeps none for a while.
        """
        self.support = support
        if support is not None:
            self.keep_only(OPINIONS, [support])

    def keep_only(self, kind: str, names: Collection[str]) -> None:
        """Delete what is kept of a kind in folders of other names."""
        for folder in (self.folder / kind).glob("*"):
            if folder.name not in names:
                shutil.rmtree(folder, ignore_errors=True)
        self._used = _bytes_in(self.folder)

    def _save(self, file: Path, values: Features) -> None:
        size = sum(value.nbytes for value in values)
        if self._used + size > self.most:
            warn_once(
                self.folder,
                "The store of features %s is full (%.1f GB): what is not in it is computed anew with every search. "
                "--cache_gb gives it more room.",
                self.folder,
                self.most / 1e9,
            )
            return
        try:
            if shutil.disk_usage(self.folder.parent).free < SPARE + size:
                warn_once(
                    self.folder, "There is no room on the disk for features in %s: searching takes longer.", self.folder
                )
                return
            with written_whole(file) as opened:
                opened.write(save({str(number): value for number, value in enumerate(values)}))
            self._used += size
        except (OSError, UnwritableError) as error:
            warn_once(self.folder, "Features cannot be kept (%s): searching takes longer.", error)


def remember(model: SofsModel, store: FeatureStore) -> None:
    """Let the head and the detector of a model look into a store before they compute features and opinions.

    Args:
        model: The model; from now on its head belongs to the store.
        store: The store.
    """
    model.backbone.ensure_weights()
    head: Any = model.head
    weights = hashlib.blake2b(digest_size=8)
    for value in (*model.backbone.state_dict().values(), *head.state_dict().values()):
        weights.update(digest(value))

    def keeping(extract: Callable[[Any, Tensor], Features], suffix: str) -> Callable[[Any, Tensor], Features]:
        def features(network: Any, windows: Tensor) -> Features:
            found = Kept()
            found.key = f"{digest(windows).hex()}-{weights.hexdigest()}{suffix}"
            found += store.kept(FEATURES, found.key, lambda: extract(network, windows))
            return found

        return features

    head.features = keeping(head.features, "")
    detector: Any = model.detector
    detector.features = keeping(detector.features, "-normal")
    _remember_deviations(detector, store, weights.hexdigest())
    if isinstance(head, RelationHead):
        _remember_opinions(head, store)


def _remember_deviations(detector: AnomalyDetector, store: FeatureStore, weights: str) -> None:
    measure, lock = detector.deviation, Lock()
    folders = sorted((store.folder / DEVIATIONS).glob("*"), key=lambda folder: folder.stat().st_mtime)
    known = deque((folder.name for folder in folders), maxlen=CONTRASTS)
    names: WeakKeyDictionary[SupportEncoding, str] = WeakKeyDictionary()

    def remembered(network: Any, image: Tensor, support: SupportEncoding) -> Tensor:
        with lock:
            if support not in names:
                content = b"".join(digest(values) for _, values in sorted(support.encodings[0].items()))
                names[support] = hashlib.blake2b(content, digest_size=8).hexdigest()
            shown = names[support]
            if shown not in known:
                known.append(shown)
                store.keep_only(DEVIATIONS, known)
        key = f"{digest(image).hex()}-{weights}"
        return store.kept(f"{DEVIATIONS}/{shown}", key, lambda: [measure(network, image, support)])[0]

    detector.deviation = remembered  # type: ignore[method-assign, assignment]


def _remember_opinions(head: RelationHead, store: FeatureStore) -> None:
    judge = head.first_logits

    def remembered(features: Features, classes: Encoding) -> Tensor:
        if store.support is None or not isinstance(features, Kept):
            return judge(features, classes)
        return store.kept(f"{OPINIONS}/{store.support}", features.key, lambda: [judge(features, classes)])[0]

    head.first_logits = remembered  # type: ignore[method-assign]


def digest_of(support: SupportSet) -> str:
    """Return what stands for a support set without its rejected regions."""
    found = hashlib.blake2b(digest_size=8)
    for image, mask, label, rejected in zip(
        support.images, support.masks, support.labels, support.rejected, strict=True
    ):
        if rejected is None:
            found.update(digest(image) + digest(mask) + label.encode())
    return found.hexdigest()


def _bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
