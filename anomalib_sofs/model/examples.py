"""Annotated examples: images, what is marked on them, and the checks that they belong together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NotRequired, Self, TypedDict, TypeVar

import numpy as np
from array_api_compat import array_namespace

from anomalib_sofs.annotations.labels import DEFECT, IGNORE, NORMAL
from anomalib_sofs.annotations.mask_folders import REJECTED
from anomalib_sofs.annotations.masks import MOST_CLASSES
from anomalib_sofs.annotations.notices import warn_once
from anomalib_sofs.arrays import Array

T = TypeVar("T")

LOOKS_INVERTED = 0.99  # share of an image that hardly any defect covers
ROUNDING = 1e-4  # by which arithmetic may leave [0, 1]


class SupportRecord(TypedDict):
    """Which support set made a result, as plain data: it goes into checkpoints and into the results' JSON."""

    images: list[str]
    """Files of the support images, or what stands for them."""
    labels: list[str]
    """Class of each of them, ``good`` where it is normal, ``not`` where it shows a rejected region."""
    normal: bool
    """Whether every support image is normal (few-shot anomaly detection)."""
    good: NotRequired[list[str]]
    """Good images that told the limits, see :mod:`.false_alarms`."""
    false_alarms: NotRequired[float]
    """Share of good images that may get a region, by these limits."""
    limits: NotRequired[dict[str, float]]
    """Of each class the probability that good images exceed only so often; of anomaly detection the distances."""
    usual: NotRequired[list[str]]
    """Of the images that were searched, those whose looks are no defect, see :mod:`.witness`."""
    roi: NotRequired[str]
    """Mask, or folder of masks, of the region of interest."""
    least_area: NotRequired[int]
    """Pixels of the smallest region that counts."""


def shows_defect(mask: Array) -> bool:
    """Tell whether a mask marks anything; ignored pixels (255) mark nothing."""
    return bool(((mask > 0) & (mask != IGNORE)).any())


def rows_by_class(masks: Sequence[Array], labels: Sequence[str]) -> dict[str, list[int]]:
    """List the examples of each defect class, in name order, together with all normal ones."""
    marked = [shows_defect(mask) for mask in masks]
    names = sorted({label for label, hit in zip(labels, marked, strict=True) if hit})
    return {name: [i for i, hit in enumerate(marked) if labels[i] == name or not hit] for name in names}


@dataclass
class Examples:
    """Annotated examples of any sizes.

    Args:
        images: RGB images ``(3, H, W)``, each of its own size: floating point in [0, 1], or uint8, which is scaled.
        masks: Masks ``(H, W)``; non-zero marks the target defect, all zero a normal example. In a mask that holds 255
            beside small numbers (1 to 64), 255 means pixels to be ignored. They are kept as uint8 of {0, 1, 255}.
        labels: Defect class of each image; normal images take part in every class.
        paths: Where the images came from, for messages and caching.
        rejected: Per example the regions ``(H, W)`` that somebody called no defect, non-zero; ``None`` for none. They
            are background that every class has to be told from. Such an example shows no defect: what its mask marks is
            ignored.
    """

    images: Sequence[Array]
    masks: Sequence[Array]
    labels: Sequence[str] = field(default_factory=list)
    paths: Sequence[str] = field(default_factory=list)
    rejected: Sequence[Array | None] = field(default_factory=list)

    @staticmethod
    def as_array(values: Any) -> Array:
        """Return an image or mask as an array of the library that is worked with."""
        return np.asarray(values)

    def __post_init__(self) -> None:
        """Check that the parts belong together.

        Raises:
            ValueError: If there is no image, an image has another shape or range, an image and its mask differ in size,
                or a mask leaves no background.
        """
        self.labels = list(self.labels) or [DEFECT] * len(self.images)
        self.paths = list(self.paths) or [f"support image {i}" for i in range(len(self.images))]
        if not self.images:
            msg = "A support set needs at least one image."
            raise ValueError(msg)
        self.images = [
            checked_image(self.as_array(image), path) for image, path in zip(self.images, self.paths, strict=True)
        ]
        self.rejected = [None if region is None else self.as_array(region) for region in self.rejected] or [None] * len(
            self.images
        )
        self.masks = [
            _checked_mask(self.as_array(mask)) if region is None else _ignoring(self.as_array(mask))
            for mask, region in zip(self.masks, self.rejected, strict=True)
        ]
        for image, mask, path in zip(self.images, self.masks, self.paths, strict=True):
            if image.shape[-2:] != mask.shape:
                msg = (
                    f"The mask of {path} is {_size(mask)} pixels, its image {_size(image)}. "
                    "Save the mask at the size of the image."
                )
                raise ValueError(msg)
            _check_background(mask, path)
        for image, mask, path, region in zip(self.images, self.masks, self.paths, self.rejected, strict=True):
            if region is not None:
                _check_rejected(region, image, mask, path)

    def add(self, image: Array, mask: Array, label: str = DEFECT, path: str | None = None) -> None:
        """Add an example.

        Args:
            image: RGB image ``(3, H, W)``, as the class takes it.
            mask: Its mask ``(H, W)``; all zero for a normal image.
            label: Its class.
            path: Where it came from.

        Raises:
            ValueError: If they do not fit together; the set is then what it was.
        """
        self._append(image, mask, label, path, None)

    def reject(self, image: Array, region: Array, path: str | None = None) -> None:
        """Say that a region is no defect, of an image of the set or of another one, such as a false alarm.

        Args:
            image: RGB image ``(3, H, W)``, as the class takes it.
            region: The region ``(H, W)``, non-zero.
            path: Where the image came from.

        Raises:
            ValueError: If the region is empty, has another size than the image, or holds pixels that are marked as
                defect; the set is then what it was.
        """
        pixels = checked_image(self.as_array(image), path or "the image")
        xp = array_namespace(pixels)
        marked = xp.zeros(pixels.shape[-2:], dtype=xp.uint8)
        for other, mask in zip(self.images, self.masks, strict=True):
            if other.shape == pixels.shape and bool(xp.all(other == pixels)):
                marked[mask != 0] = IGNORE  # what is marked elsewhere is no background here
        self._append(pixels, marked, NORMAL, path, self.as_array(region))

    def _append(self, image: Array, mask: Array, label: str, path: str | None, region: Array | None) -> None:
        grown = type(self)(
            [*self.images, image],
            [*self.masks, mask],
            [*self.labels, label],
            [*self.paths, path or f"support image {len(self.images)}"],
            [*self.rejected, region],
        )
        self.__dict__.update(grown.__dict__)

    @property
    def normal(self) -> bool:
        """Whether every mask is empty: few-shot anomaly detection."""
        return not any(shows_defect(mask) for mask in self.masks)

    @property
    def marked_masks(self) -> list[Array]:
        """The masks that show a defect."""
        return [mask for mask in self.masks if shows_defect(mask)]

    @property
    def marked(self) -> Self:
        """The examples that show a defect."""
        return self._of([i for i, mask in enumerate(self.masks) if shows_defect(mask)])

    @property
    def shows_rejected(self) -> bool:
        """Whether any region was rejected."""
        return any(region is not None for region in self.rejected)

    @property
    def with_rejected(self) -> Self:
        """The examples that show a rejected region."""
        return self._of([i for i, region in enumerate(self.rejected) if region is not None])

    @property
    def without_rejected(self) -> Self:
        """All other examples."""
        return self._of([i for i, region in enumerate(self.rejected) if region is None])

    def _of(self, rows: Sequence[int]) -> Self:

        def chosen(values: Sequence[T]) -> list[T]:
            return [values[i] for i in rows]

        return type(self)(
            chosen(self.images), chosen(self.masks), chosen(self.labels), chosen(self.paths), chosen(self.rejected)
        )

    @property
    def classes(self) -> list[str]:
        """Defect classes in name order; one nameless class if all masks are empty."""
        return list(rows_by_class(self.masks, self.labels)) or [DEFECT]


def checked_image(image: Array, path: str) -> Array:
    """Return an image as floating point in [0, 1].

    Raises:
        ValueError: If it has another shape or range, or values that are not numbers.
    """
    xp = array_namespace(image)
    if image.ndim != 3 or image.shape[0] != 3:  # noqa: PLR2004
        msg = f"{path} has the shape {tuple(image.shape)}, but support images are (3, H, W). Change its axes."
        raise ValueError(msg)
    if image.dtype == xp.uint8:
        return xp.astype(image, xp.float32) / 255
    if not xp.isdtype(image.dtype, "real floating"):
        msg = f"{path} holds {image.dtype}, but support images are floating point in [0, 1] or uint8. Convert it."
        raise ValueError(msg)
    if not bool(xp.all(xp.isfinite(image))):
        msg = f"{path} holds values that are not numbers (NaN or infinity). Replace or leave out this image."
        raise ValueError(msg)
    low, high = float(xp.min(image)), float(xp.max(image))
    if low < -ROUNDING or high > 1 + ROUNDING:
        msg = (
            f"{path} holds values from {low:g} to {high:g}, but support images are floating point in [0, 1] (not "
            "normalised) or uint8. Scale it."
        )
        raise ValueError(msg)
    return image


def _checked_mask(mask: Array) -> Array:
    """Return a mask ``(H, W)`` as uint8 of {0, 1, 255}."""
    xp = array_namespace(mask)
    if mask.ndim == 3 and mask.shape[0] == 1:  # noqa: PLR2004
        mask = mask[0, ...]
    defect = mask != 0
    if mask.dtype != xp.bool and bool((mask == IGNORE).any()):
        ignored = mask == IGNORE
        numbers = mask[defect & ~ignored]
        # 0 and 255 alone are black and white
        if numbers.shape[0] and bool((numbers <= MOST_CLASSES).all()):
            return xp.where(ignored, xp.asarray(IGNORE, dtype=xp.uint8), xp.astype(defect, xp.uint8))
    return xp.astype(defect, xp.uint8)


def _ignoring(mask: Array) -> Array:
    """Return a mask as uint8 of {0, 255}: what it marks counts for nothing."""
    xp = array_namespace(mask)
    return xp.astype(mask != 0, xp.uint8) * IGNORE


def _check_rejected(region: Array, image: Array, mask: Array, path: str) -> None:
    if region.shape != image.shape[-2:]:
        msg = f"The rejected region of {path} is {_size(region)} pixels, its image {_size(image)}. Use the same size."
        raise ValueError(msg)
    if not bool((region != 0).any()):
        msg = f"The rejected region of {path} is empty: every pixel is 0. Mark what is no defect, or leave it out."
        raise ValueError(msg)
    if bool(((region != 0) & (mask != 0)).any()):
        msg = f"The rejected region of {path} holds pixels that are marked as defect. Take them out of one of the two."
        raise ValueError(msg)


def _check_background(mask: Array, path: str) -> None:
    defect, background = int((mask == 1).sum()), int((mask == 0).sum())
    if defect and not background:
        msg = (
            f"The mask of {path} marks the whole image: no background to compare with. Mark the defect only, with 0 "
            "for everything else, or use an image that shows more than the defect."
        )
        raise ValueError(msg)
    share = defect / (mask.shape[0] * mask.shape[1])
    if share > LOOKS_INVERTED:
        warn_once(
            path,
            "The mask of %s marks %.1f %% of the image: it looks inverted. Non-zero pixels are the defect.",
            path,
            100 * share,
        )


def _size(values: Array) -> str:
    return f"{values.shape[-1]} x {values.shape[-2]}"


def record_of(support: Examples) -> SupportRecord:
    """Describe a support set for whoever reads the results."""
    examples = zip(support.labels, support.masks, support.rejected, strict=True)
    labels = [
        label if shows_defect(mask) else NORMAL if rejected is None else REJECTED for label, mask, rejected in examples
    ]
    return {"images": list(support.paths), "labels": labels, "normal": support.normal}
