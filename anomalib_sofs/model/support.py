"""Support sets: annotated example images, from memory or from a folder."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from anomalib_sofs.annotations.frames import check_mask_size
from anomalib_sofs.annotations.labels import DEFECT, IGNORE, NORMAL
from anomalib_sofs.annotations.masks import MOST_CLASSES
from anomalib_sofs.annotations.notices import warn_once
from anomalib_sofs.annotations.reader import read_support
from anomalib_sofs.annotations.rejected import rejected_alone, rejected_masks
from anomalib_sofs.tensors import read_image, read_mask

logger = logging.getLogger(__name__)

T = TypeVar("T")

LOOKS_INVERTED = 0.99  # share of an image that hardly any defect covers
ROUNDING = 1e-4  # by which arithmetic may leave [0, 1]


def shows_defect(mask: Tensor) -> bool:
    """Tell whether a mask marks anything; ignored pixels (255) mark nothing."""
    return bool(((mask > 0) & (mask != IGNORE)).any())


def rows_by_class(masks: Sequence[Tensor], labels: Sequence[str]) -> dict[str, list[int]]:
    """List the examples of each defect class, in name order, together with all normal ones."""
    marked = [shows_defect(mask) for mask in masks]
    names = sorted({label for label, hit in zip(labels, marked, strict=True) if hit})
    return {name: [i for i, hit in enumerate(marked) if labels[i] == name or not hit] for name in names}


@dataclass
class SupportSet:
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

    images: Sequence[Tensor]
    masks: Sequence[Tensor]
    labels: Sequence[str] = field(default_factory=list)
    paths: Sequence[str] = field(default_factory=list)
    rejected: Sequence[Tensor | None] = field(default_factory=list)

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
        self.images = [checked_image(image, path) for image, path in zip(self.images, self.paths, strict=True)]
        self.rejected = list(self.rejected) or [None] * len(self.images)
        self.masks = [
            _checked_mask(mask) if region is None else _ignoring(mask)
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

    def add(self, image: Tensor, mask: Tensor, label: str = DEFECT, path: str | None = None) -> None:
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

    def reject(self, image: Tensor, region: Tensor, path: str | None = None) -> None:
        """Say that a region is no defect, of an image of the set or of another one, such as a false alarm.

        Args:
            image: RGB image ``(3, H, W)``, as the class takes it.
            region: The region ``(H, W)``, non-zero.
            path: Where the image came from.

        Raises:
            ValueError: If the region is empty, has another size than the image, or holds pixels that are marked as
                defect; the set is then what it was.
        """
        pixels = checked_image(image, path or "the image")
        marked = torch.zeros(pixels.shape[-2:], dtype=torch.uint8)
        for other, mask in zip(self.images, self.masks, strict=True):
            if other.shape == pixels.shape and torch.equal(other.to(pixels), pixels):
                marked[mask != 0] = IGNORE  # what is marked elsewhere is no background here
        self._append(pixels, marked, NORMAL, path, torch.as_tensor(region))

    def _append(self, image: Tensor, mask: Tensor, label: str, path: str | None, region: Tensor | None) -> None:
        grown = SupportSet(
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
    def marked_masks(self) -> list[Tensor]:
        """The masks that show a defect."""
        return [mask for mask in self.masks if shows_defect(mask)]

    @property
    def marked(self) -> "SupportSet":
        """The examples that show a defect."""
        return self._of([i for i, mask in enumerate(self.masks) if shows_defect(mask)])

    @property
    def shows_rejected(self) -> bool:
        """Whether any region was rejected."""
        return any(region is not None for region in self.rejected)

    @property
    def with_rejected(self) -> "SupportSet":
        """The examples that show a rejected region."""
        return self._of([i for i, region in enumerate(self.rejected) if region is not None])

    @property
    def without_rejected(self) -> "SupportSet":
        """All other examples."""
        return self._of([i for i, region in enumerate(self.rejected) if region is None])

    def _of(self, rows: Sequence[int]) -> "SupportSet":

        def chosen(values: Sequence[T]) -> list[T]:
            return [values[i] for i in rows]

        return SupportSet(
            chosen(self.images), chosen(self.masks), chosen(self.labels), chosen(self.paths), chosen(self.rejected)
        )

    @property
    def classes(self) -> list[str]:
        """Defect classes in name order; one nameless class if all masks are empty."""
        return list(rows_by_class(self.masks, self.labels)) or [DEFECT]

    @classmethod
    def from_files(cls, images: Sequence[str], masks: Sequence[str]) -> "SupportSet":
        """Read images and their masks of one defect class; an empty mask path means a normal image."""
        pixels = [read_image(image) for image in images]
        return cls(
            pixels,
            [read_mask(mask) if mask else _nothing(image) for image, mask in zip(pixels, masks, strict=True)],
            [DEFECT] * len(images),
            list(images),
        )

    @classmethod
    def from_folder(cls, path: str | Path, *, normal: bool = False) -> "SupportSet":
        """Read a support set from disk.

        Every form of marked images is read that :func:`~anomalib_sofs.annotations.reader.recognise` knows: ``image/``
        beside ``mask/``, ``part_mask.png`` beside ``part.png``, MVTec's ``ground_truth/CLASS``, COCO, LabelMe and YOLO
        files, class numbers, and one sub-folder per class. Every image must show something marked, except those of a
        folder called ``good`` (``normal``, ``ok``, in any case of letters). A folder of this name, or ``normal=True``,
        gives a set of normal images (few-shot anomaly detection). A folder ``not`` beside ``mask/`` holds masks of
        rejected regions; an image with such a mask alone is normal. Of images in ``not/image/``, with masks in
        ``not/mask/``, nothing else is known.

        Args:
            path: The folder.
            normal: Whether all its images are normal.

        Raises:
            FileNotFoundError: If the folder or its images are missing.
            ValueError: If nothing is marked, on one of the images or at all, a file is missing or cannot be read, sizes
                differ, or a mask leaves no background.
        """
        marked = read_support(Path(path), normal=normal)
        images: dict[Path, Tensor] = {}  # an image with several classes is read once
        for image, _, _ in marked:
            if image not in images:
                images[image] = read_image(image)
        masks = [_nothing(images[image]) if mask is None else torch.from_numpy(mask) for image, _, mask in marked]
        labels = [NORMAL if mask is None else label for _, label, mask in marked]
        support = cls([images[image] for image, _, _ in marked], masks, labels, [str(image) for image, _, _ in marked])
        for image, file in (rejected_masks(images) | rejected_alone(Path(path))).items():
            region = read_mask(file)
            check_mask_size((region.shape[0], region.shape[1]), f"The mask {file}", image)
            support.reject(images[image] if image in images else read_image(image), region, str(image))
        return support


def _nothing(image: Tensor) -> Tensor:
    return torch.zeros(image.shape[-2:], dtype=torch.uint8)


def checked_image(image: Tensor, path: str) -> Tensor:
    """Return an image as floating point in [0, 1].

    Raises:
        ValueError: If it has another shape or range, or values that are not numbers.
    """
    image = torch.as_tensor(image)
    if image.ndim != 3 or image.shape[0] != 3:  # noqa: PLR2004
        msg = f"{path} has the shape {tuple(image.shape)}, but support images are (3, H, W). Change its axes."
        raise ValueError(msg)
    if image.dtype == torch.uint8:
        return image.float() / 255
    if not image.is_floating_point():
        msg = f"{path} holds {image.dtype}, but support images are floating point in [0, 1] or uint8. Convert it."
        raise ValueError(msg)
    if not bool(torch.isfinite(image).all()):
        msg = f"{path} holds values that are not numbers (NaN or infinity). Replace or leave out this image."
        raise ValueError(msg)
    low, high = float(image.min()), float(image.max())
    if low < -ROUNDING or high > 1 + ROUNDING:
        msg = (
            f"{path} holds values from {low:g} to {high:g}, but support images are floating point in [0, 1] (not "
            "normalised) or uint8. Scale it."
        )
        raise ValueError(msg)
    return image


def _checked_mask(mask: Tensor) -> Tensor:
    """Return a mask ``(H, W)`` as uint8 of {0, 1, 255}."""
    mask = torch.as_tensor(mask)
    if mask.ndim == 3 and mask.shape[0] == 1:  # noqa: PLR2004
        mask = mask[0]
    defect = mask != 0
    if mask.dtype != torch.bool and bool((mask == IGNORE).any()):
        ignored = mask == IGNORE
        numbers = mask[defect & ~ignored]
        # 0 and 255 alone are black and white
        if len(numbers) and bool((numbers <= MOST_CLASSES).all()):
            return torch.where(ignored, torch.tensor(IGNORE, dtype=torch.uint8), defect.to(torch.uint8))
    return defect.to(torch.uint8)


def _ignoring(mask: Tensor) -> Tensor:
    """Return a mask as uint8 of {0, 255}: what it marks counts for nothing."""
    return (torch.as_tensor(mask) != 0).to(torch.uint8) * IGNORE


def _check_rejected(region: Tensor, image: Tensor, mask: Tensor, path: str) -> None:
    if region.shape != image.shape[-2:]:
        msg = f"The rejected region of {path} is {_size(region)} pixels, its image {_size(image)}. Use the same size."
        raise ValueError(msg)
    if not bool((region != 0).any()):
        msg = f"The rejected region of {path} is empty: every pixel is 0. Mark what is no defect, or leave it out."
        raise ValueError(msg)
    if bool(((region != 0) & (mask != 0)).any()):
        msg = f"The rejected region of {path} holds pixels that are marked as defect. Take them out of one of the two."
        raise ValueError(msg)


def _check_background(mask: Tensor, path: str) -> None:
    defect, background = int((mask == 1).sum()), int((mask == 0).sum())
    if defect and not background:
        msg = (
            f"The mask of {path} marks the whole image: no background to compare with. Mark the defect only, with 0 "
            "for everything else, or use an image that shows more than the defect."
        )
        raise ValueError(msg)
    share = defect / mask.numel()
    if share > LOOKS_INVERTED:
        warn_once(
            path,
            "The mask of %s marks %.1f %% of the image: it looks inverted. Non-zero pixels are the defect.",
            path,
            100 * share,
        )


def _size(values: Tensor) -> str:
    return f"{values.shape[-1]} x {values.shape[-2]}"
