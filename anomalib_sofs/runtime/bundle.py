"""A bundle: a folder with the exported networks, the support encoding, and a small JSON that says what they are.

``bundle.json`` names every other file with its length and a hash of its content, so that a file that is missing, cut
off or of another bundle is found before it is used.
"""

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal, NoReturn, Self

from anomalib_sofs.results.files import unwritable, write_json

VERSION = 3
"""Of the files of a bundle and of what the networks take and give; others are refused."""
NAME = "bundle.json"
SUPPORT = "support.npz"
FEATURES, DECISION, REJECTING, NORMAL = "features", "decision", "decision_with_rejections", "normal_features"
NETWORKS = (FEATURES, DECISION, REJECTING, NORMAL)
"""Features of marked defects; the decision, without and with rejected regions; features of anomaly detection."""
Precision = Literal["fp32", "bf16", "int8"]
HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""What OpenVINO is asked for; with INT8 what was left in floating point is computed as it is."""


class BundleError(ValueError):
    """A bundle cannot be used; the message says why, and what to do."""


@dataclass(frozen=True)
class Bundle:
    """What ``bundle.json`` says, apart from the files."""

    precision: Precision
    """In which the networks that find marked defects are computed; anomaly detection always takes FP32."""
    window_size: int
    """See :class:`~anomalib_sofs.windows.Windows`."""
    multiple: int
    """Likewise."""
    crops_per_shot: int
    """Most windows over the marks of a support image."""
    background_windows: int
    """Most further windows over the rest of it."""
    turns: Sequence[int]
    """Quarter turns in which every window over marks is seen."""
    channels: Sequence[int]
    """Of the layers in the coarse grid of features."""
    fine_channels: Sequence[int]
    """Of the layers in the fine grid."""
    evidence: bool
    """Whether an image has to show about as much of a defect as was marked."""
    threshold_logit: float
    """Logit that becomes 0.5."""
    normal_multiple: int
    """Sides of images in anomaly detection are multiples of this number of pixels."""
    made_by: str = ""
    """Version of the package that wrote it."""
    files: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Length in bytes and hash of each file."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read ``bundle.json`` and check the files that it names.

        Raises:
            FileNotFoundError: If there is no bundle.
            BundleError: If it is of another version, or a file is missing or changed.
        """
        path = folder / NAME
        if not path.is_file():
            found = "is no bundle: it has no" if folder.is_dir() else "does not exist, and has no"
            msg = f"{folder} {found} {NAME}. Make one: anomalib-sofs bundle --out {folder} --model.support SUPPORT."
            raise FileNotFoundError(msg)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            version = content.pop("version")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            msg = f"{path} cannot be read ({error!r}). Make the bundle again: anomalib-sofs bundle."
            raise BundleError(msg) from error
        if version != VERSION:
            msg = (
                f"{folder} is a bundle of version {version}, this package reads version {VERSION}. Make it again with "
                "the package that runs it: anomalib-sofs bundle."
            )
            raise BundleError(msg)
        known = {entry.name for entry in fields(cls)}
        if set(content) != known:
            wrong = ", ".join(sorted(set(content) ^ known))
            msg = f"{path} has fields too many or too few ({wrong}). Make the bundle again: anomalib-sofs bundle."
            raise BundleError(msg)
        bundle = cls(**content)
        for name, (length, digest) in bundle.files.items():
            _check(folder / name, length, digest)
        return bundle

    @property
    def has_support(self) -> bool:
        """Whether a support encoding comes with it."""
        return SUPPORT in self.files

    def write(self, folder: Path) -> None:
        """Write ``bundle.json`` about the files that lie in a folder."""
        files = {path.name: (path.stat().st_size, _hash(path)) for path in sorted(folder.iterdir())}
        files.pop(NAME, None)
        write_json({"version": VERSION, **asdict(self), "files": files}, folder / NAME)


@contextmanager
def written_aside(folder: Path) -> Iterator[Path]:
    """Give a folder beside it in which a bundle is made; it takes the place of an earlier bundle when it is whole.

    Raises:
        UnwritableError: If it cannot be written; nothing is left then.
        BundleError: If something else lies there already.
    """
    if folder.exists() and not (folder / NAME).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        msg = f"{folder} exists and is no bundle. Choose another name, or remove it."
        raise BundleError(msg)
    aside = folder.absolute().with_name(f".part-{uuid.uuid4().hex}")
    before = folder.absolute().with_name(f".before-{uuid.uuid4().hex}")
    try:
        aside.mkdir(parents=True)
        yield aside
        if folder.exists():
            folder.replace(before)
        aside.replace(folder)
    except OSError as error:
        if before.exists() and not folder.exists():
            before.replace(folder)
        raise unwritable(folder, error) from error
    finally:
        for rest in (aside, before):
            shutil.rmtree(rest, ignore_errors=True)


def _check(path: Path, length: int, digest: str) -> None:
    if not path.is_file():
        _damaged(path, "is missing")
    found = path.stat().st_size
    if found != length:
        _damaged(path, f"has {found} bytes instead of {length}")
    if _hash(path) != digest:
        _damaged(path, "was changed")


def _damaged(path: Path, what: str) -> NoReturn:
    msg = f"{path} {what}: the bundle was not copied whole. Copy it again, or make it again: anomalib-sofs bundle."
    raise BundleError(msg)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def bundle_hash(folder: Path) -> str:
    """Return what tells one bundle from another: a hash of ``bundle.json``, which holds those of all other files."""
    return _hash(folder / NAME)
