"""Support sets: annotated example images as tensors, from memory or from a folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anomalib_sofs.annotations.frames import check_mask_size
from anomalib_sofs.annotations.labels import DEFECT, NORMAL
from anomalib_sofs.annotations.reader import read_support
from anomalib_sofs.annotations.rejected import rejected_alone, rejected_masks
from anomalib_sofs.tensors import read_image, read_mask

from .examples import Examples


@dataclass
class SupportSet(Examples):
    """Annotated examples as tensors, see :class:`.examples.Examples`."""

    @staticmethod
    def as_array(values: Any) -> Tensor:
        """Return an image or mask as a tensor."""
        return torch.as_tensor(values)

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
