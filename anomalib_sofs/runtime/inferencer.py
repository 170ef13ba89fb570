"""Mark defects and find them again, without PyTorch: what :class:`~anomalib_sofs.model.Sofs` does, by OpenVINO."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomalib_sofs.annotations.masks import read_marks
from anomalib_sofs.annotations.notices import warn_once
from anomalib_sofs.images import read_stored
from anomalib_sofs.model.contrast import contrasted
from anomalib_sofs.model.examples import Examples, record_of
from anomalib_sofs.model.normality.cells_and_spaces import CellSpaceDetector
from anomalib_sofs.model.normality.detector import Prediction as Found
from anomalib_sofs.model.probabilities import LIMIT, only_inside, probabilities
from anomalib_sofs.model.relation.description import Channels
from anomalib_sofs.model.relation.marks import Look, encode_marks, stacked
from anomalib_sofs.model.relation.whole_image import PARTS, judged, weighed
from anomalib_sofs.model.support_crops import SupportCrops, say_resized
from anomalib_sofs.results.regions import describe_region, find_regions
from anomalib_sofs.results.writer import Result
from anomalib_sofs.windows import Merging, Windows, split

from .bundle import HINTS, SUPPORT, Bundle
from .crops_in_memory import CropsInMemory
from .networks import Networks, WindowQueue
from .support_file import Encoded, load, save

logger = logging.getLogger(__name__)

ImageLike = str | Path | Image.Image | NDArray[np.uint8]
MaskLike = str | Path | Image.Image | NDArray[Any] | None
THRESHOLD = 0.5
"""Value of a map above which a pixel is a defect."""


@dataclass(frozen=True)
class Prediction:
    """What was found on one image."""

    anomaly_map: NDArray[np.float32]
    """Probability of each pixel ``(H, W)``, or how far it is from normal; in [0, 1], above 0.5 it is a defect."""
    pred_mask: NDArray[np.uint8]
    """Class number of each pixel ``(H, W)``, 0 where nothing was found."""
    pred_score: float
    """Of the image, in [0, 1]."""
    names: Sequence[str]
    """Class names, number 1 first."""

    @cached_property
    def regions(self) -> list[dict[str, Any]]:
        """What was found, region by region, see :func:`~anomalib_sofs.results.regions.describe_region`."""
        size = (self.pred_mask.shape[0], self.pred_mask.shape[1])
        return [describe_region(r, size) for r in find_regions(self.pred_mask, self.anomaly_map, self.names)]


class SofsInferencer:
    """Runs a bundle, see :mod:`.bundle`.

    Args:
        folder: The bundle.
        device: ``CPU``, ``GPU``, ``NPU`` or ``AUTO``, as OpenVINO names them; only ``CPU`` has been tried.
        threads: That OpenVINO takes; ``None`` lets it choose.

    Raises:
        FileNotFoundError: If there is no bundle.
        BundleError: If it is of another version or not whole.
        DeviceError: If there is no such device.
    """

    def __init__(self, folder: str | Path, device: str = "CPU", threads: int | None = None) -> None:
        self._folder = Path(folder)
        self.bundle = Bundle.read(self._folder)
        self._networks = Networks(self._folder, device, HINTS[self.bundle.precision], threads)
        self._windows = Windows(self.bundle.window_size, self.bundle.multiple)
        self._detector = CellSpaceDetector(self.bundle.normal_multiple)
        self._channels = Channels(self.bundle.channels, self.bundle.fine_channels)
        self._support: Encoded | None = None
        self._queue: WindowQueue | None = None
        if self.bundle.has_support:
            self.use(load(self._folder / SUPPORT))

    @property
    def support(self) -> Encoded:
        """The encoding that is used.

        Raises:
            RuntimeError: If there is none yet.
        """
        if self._support is None:
            msg = (
                f"{self._folder} came without a support set, and none was set: call set_support(images, masks) or "
                "load_support(file), or make the bundle with --model.support."
            )
            raise RuntimeError(msg)
        return self._support

    def use(self, encoded: Encoded) -> None:
        """Search for what an encoding describes."""
        self._support, self._queue = encoded, None

    def save_support(self, path: str | Path) -> None:
        """Write the support encoding to a file, ``.npz``.

        Raises:
            RuntimeError: If there is none yet.
            UnwritableError: If it cannot be written.
        """
        save(self.support, Path(path))

    def load_support(self, path: str | Path) -> None:
        """Use the support encoding of a file.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no encoding, not whole, or of another version.
        """
        self.use(load(Path(path)))

    def set_support(
        self,
        images: Sequence[ImageLike],
        masks: Sequence[MaskLike],
        classes: Sequence[str] | None = None,
        rejected: Sequence[tuple[ImageLike, MaskLike]] = (),
    ) -> None:
        """Mark defects: from now on these are searched for.

        Region of interest, least area and threshold of the bundle still count, and in anomaly detection what validation
        images told, as in PyTorch. Thresholds that good images told belong to the support set that they were told with,
        and are dropped, as is what else they showed.

        Args:
            images: Files, Pillow images, or arrays ``(H, W, 3)`` of uint8.
            masks: Of each image a file, a Pillow image, or an array ``(H, W)``, non-zero where the defect is; ``None``
                for a normal image.
            classes: Class of each image; without, there is one.
            rejected: Images, of these or others, and regions of them that are no defect, such as false alarms; regions
                as masks are given.

        Raises:
            ValueError: If they do not fit together, or a file cannot be read.
        """
        if len(images) != len(masks) or (classes is not None and len(classes) != len(images)):
            msg = (
                f"{len(images)} images, {len(masks)} masks"
                + ("" if classes is None else f", {len(classes)} classes")
                + ": give one of each for every image, None as the mask of a normal one."
            )
            raise ValueError(msg)
        pixels = [as_pixels(image) for image in images]
        marks = [as_marks(mask, image.shape[-2:]) for mask, image in zip(masks, pixels, strict=True)]
        names = [str(i) if isinstance(i, str | Path) else f"support image {n}" for n, i in enumerate(images)]
        examples = Examples(pixels, marks, list(classes or []), names)
        for n, (image, region) in enumerate(rejected):
            shown = as_pixels(image)
            name = str(image) if isinstance(image, str | Path) else f"rejected image {n}"
            examples.reject(shown, as_marks(region, shown.shape[-2:]), name)
        encoded = self.encoded(examples)
        if self._support is not None:
            encoded = self._kept(self._support, encoded)
        self.use(encoded)

    def _kept(self, before: Encoded, encoded: Encoded) -> Encoded:
        """Take over what does not belong to a support set alone, and say what does."""
        if "limits" in before.record:
            logger.warning(
                "What %d good images told, thresholds too, belongs to the earlier support set and counts no more. To "
                "have it again, make the bundle with this support set and --model.good FOLDER.",
                len(before.record.get("good", [])),
            )
        if before.ranges and encoded.normal:
            warn_once(
                self._folder,
                "The thresholds that validation images told with an earlier support set of %s count for this one, too. "
                "If it shows other parts, make the bundle again from a model that was validated with it.",
                self._folder,
            )
        kept = {name: before.record[name] for name in ("roi", "least_area") if name in before.record}
        return replace(
            encoded, roi=before.roi, least_area=before.least_area, ranges=before.ranges,
            record={**encoded.record, **kept},
        )  # fmt: skip

    def encoded(self, examples: Examples) -> Encoded:
        """Reduce examples to what a query is compared with."""
        normal, crops = examples.normal, self.crops(examples)
        if normal:
            if examples.shows_rejected:
                warn_once(
                    self._folder,
                    "Rejected regions are background like any other where no defect is marked: mark one, too.",
                )
            say_resized(examples, crops.windows.size)
            classes = self._detector.encode(self._networks.normal_features, crops)
        else:
            networks = self._networks
            classes = encode_marks(crops, networks.features, networks.first, networks.look, self._channels)
        arrays = [_single(one) for one in classes.values()]
        return Encoded(list(classes), arrays, normal=normal, whole=normal, record=record_of(examples))

    def crops(self, examples: Examples) -> SupportCrops:
        """Cut examples into the windows that the networks see of them."""
        normal = examples.normal
        return SupportCrops(
            examples,
            self._detector.windows if normal else self._windows,
            lambda image: image,  # networks take images in [0, 1]
            per_image=self.bundle.crops_per_shot,
            background=0 if normal else self.bundle.background_windows,
            turns=self._detector.turns if normal else self.bundle.turns,
            whole=normal,
            cache=CropsInMemory(),
        )

    def predict(self, image: ImageLike) -> Prediction:
        """Find on an image of any size what is marked, window by window.

        Args:
            image: A file, a Pillow image, or an array ``(H, W, 3)`` of uint8.

        Raises:
            RuntimeError: If there is no support yet.
            ValueError: If the image cannot be read, or the region of interest does not fit.
        """
        return self.decided(self.raw(image))

    def raw(self, image: ImageLike) -> Found:
        """Return the maps of all classes and the score, before anything is decided, see :meth:`predict`."""
        found: list[Found] = []
        if self._queue is None:
            self._queue = self.queue(jobs=1)
        self.start(image, self._queue, found.append)
        if self._queue is not None:
            self._queue.finish()
        return found[0]

    def decided(self, found: Found) -> Prediction:
        """Give every pixel that is a defect its class."""
        names, ranges = self.support.names, self.support.ranges
        maps, score = found.maps[0], float(found.score[0])
        if ranges and self.support.normal:  # of marked defects maps are probabilities
            maps, score = _normalised(maps, ranges.get("map")), float(_normalised(score, ranges.get("score")))
        if len(names) == 1:
            return Prediction(maps[0], (maps[0] > THRESHOLD).astype(np.uint8), score, names)
        anomaly_map = maps.max(axis=0)
        numbers = (maps.argmax(axis=0) + 1).astype(np.uint8 if len(names) < 256 else np.uint16)  # noqa: PLR2004
        return Prediction(anomaly_map, np.where(anomaly_map > THRESHOLD, numbers, numbers.dtype.type(0)), score, names)

    def queue(self, jobs: int | None = None) -> WindowQueue | None:
        """Make a queue of windows for :meth:`start`, see :meth:`.networks.Networks.windows`.

        There is none in anomaly detection, which sees images whole, one at a time.
        """
        if self.support.normal:
            return None
        return self._networks.windows(self._classes, jobs)

    @property
    def _classes(self) -> dict[str, NDArray[np.float32]]:
        return stacked(self.support.encodings)

    def start(
        self,
        image: ImageLike,
        queue: WindowQueue | None,
        receiver: Callable[[Found], None],
        pixels: NDArray[Any] | None = None,
    ) -> None:
        """Put all windows of an image into a queue; the receiver gets what was found when the last one was judged.

        Args:
            image: See :meth:`predict`.
            queue: See :meth:`queue`.
            receiver: Called in another thread.
            pixels: What was read of it already ``(3, H, W)``.
        """
        support = self.support
        pixels = as_pixels(image) if pixels is None else pixels
        name = str(image) if isinstance(image, str | Path) else None
        inside = None if support.roi is None else support.roi.inside(pixels.shape[-2:], name)[None, None]
        if queue is None:
            receiver(self._detector.predict(self._networks.normal_features, pixels[None], support, inside))
            return
        classes = self._classes
        merging = Merging(pixels[None], self._windows)
        lock, seen = Lock(), 0
        deviation = None
        if support.contrast is not None:  # here, as requests must not wait for another network
            features = self._networks.normal_features
            deviation = self._detector.deviation(features, merging.image, support.contrast)

        def receive(place: tuple[int, int], look: Look) -> None:
            nonlocal seen
            with lock:
                merging.add(place, weighed(look, classes))
                seen += 1
                last = seen == len(merging)
            if last:
                receiver(self._finished(merging, classes, inside, deviation))

        for place, window in merging.windows():
            queue.judge(window, lambda look, place=place: receive(place, look))

    def _finished(
        self,
        merging: Merging,
        classes: dict[str, NDArray[np.float32]],
        inside: NDArray[np.bool_] | None,
        deviation: NDArray[np.float32] | None,
    ) -> Found:
        """Weigh the image as a whole."""
        logits = judged(split(merging.mean(), PARTS), classes, evidence=self.bundle.evidence, inside=inside)
        if deviation is not None:
            logits = contrasted(logits, deviation)
        logits = only_inside(logits, inside)
        maps = probabilities(logits, self.bundle.threshold_logit, classes.get(LIMIT), self.support.least_area)
        return Found(maps, maps.max(axis=(1, 2, 3)))


def _normalised(values: Any, told: Sequence[float] | None) -> Any:
    """Bring values to where the threshold is 0.5, as anomalib does it (``PostProcessor``)."""
    if told is None:
        return values
    low, high, threshold = told
    return np.clip((values - threshold) / ((high - low) or 1) + THRESHOLD, 0, 1)


def as_result(prediction: Prediction, image: Path, support: Encoded) -> Result:
    """Return a prediction as what :class:`~anomalib_sofs.results.writer.Writer` writes."""
    return Result(
        image, prediction.anomaly_map, prediction.pred_mask, prediction.pred_score, prediction.names, THRESHOLD,
        support.record,
    )  # fmt: skip


def as_pixels(image: ImageLike) -> NDArray[Any]:
    """Return an image as ``(3, H, W)``, uint8 or float32 in [0, 1].

    Raises:
        ValueError: If it is neither a file nor an image.
    """
    if isinstance(image, str | Path):
        return read_stored(image)
    values = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
    if values.ndim != 3 or values.shape[2] != 3 or values.dtype != np.uint8 or not values.size:  # noqa: PLR2004
        msg = (
            f"An image of shape {values.shape} and type {values.dtype} is not taken: give a file, a Pillow image, or "
            "an array (H, W, 3) of uint8, red first."
        )
        raise ValueError(msg)
    return values.transpose(2, 0, 1)


def as_marks(mask: MaskLike, size: Sequence[int]) -> NDArray[Any]:
    """Return a mask ``(H, W)``, zero for a normal image of a size."""
    if mask is None:
        return np.zeros(tuple(size), dtype=np.uint8)
    return read_marks(mask) if isinstance(mask, str | Path) else np.asarray(mask)


def _single(encoding: dict[str, Any]) -> dict[str, NDArray[np.float32]]:
    return {name: np.asarray(value, dtype=np.float32) for name, value in encoding.items()}
