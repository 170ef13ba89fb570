"""Region of interest: where in an image a defect counts."""

import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anomalib_sofs.annotations.mask_folders import SUFFIX, by_stem
from anomalib_sofs.annotations.masks import read_marks
from anomalib_sofs.images import image_files, image_size

FIXED = ""
"""Stem of the mask that stands for every image."""

PackedMask = tuple[int, int, NDArray[np.uint8]]  # height, width, compressed bits


class RegionOfInterest:
    """Masks that say where a defect counts: one for a fixed camera, or one per image, by stem.

    Args:
        source: The mask file or the folder of masks.
        masks: The masks by stem, packed; one called :data:`FIXED` stands for every image.
    """

    def __init__(self, source: str, masks: dict[str, PackedMask]) -> None:
        self.source = source
        self.masks = masks
        self._fixed = _unpacked(masks[FIXED]) if self.fixed else None

    @classmethod
    def from_path(cls, path: str | Path) -> "RegionOfInterest":
        """Read a mask file, or a folder with ``NAME.png`` or ``NAME_mask.png`` for images called ``NAME``.

        Raises:
            FileNotFoundError: If there is no mask.
            ValueError: If one cannot be read or marks nothing, or two share a stem.
        """
        path = Path(path)
        if not path.is_dir():
            return cls(str(path), {FIXED: _packed(path)})
        files = by_stem(image_files(path), SUFFIX)
        if not files:
            msg = f"No mask in {path}. Put one there for each image, of the same name: PART.png or PART_mask.png."
            raise FileNotFoundError(msg)
        return cls(str(path), {stem: _packed(file) for stem, file in files.items()})

    @property
    def fixed(self) -> bool:
        """Whether one mask stands for every image."""
        return FIXED in self.masks

    def inside(self, size: Sequence[int], image: str | None) -> NDArray[np.bool_]:
        """Return which pixels of an image count ``(H, W)``, bool.

        Args:
            size: Height and width of the image.
            image: Its file.

        Raises:
            ValueError: If there is no mask for it, or one of another size.
        """
        mask = self._mask(size, image)
        return _unpacked(mask) if self._fixed is None else self._fixed

    def check(self, images: Iterable[str]) -> None:
        """Check from their headers that image files have masks of their size.

        Raises:
            ValueError: If one has not, naming both files and sizes.
        """
        for image in images:
            self._mask(image_size(image), image)

    def _mask(self, size: Sequence[int], image: str | None) -> PackedMask:
        if not self.fixed and image is None:
            msg = f"The masks in {self.source} belong to images by name, and this image has none. Use one mask for all."
            raise ValueError(msg)
        stem = FIXED if self.fixed else Path(str(image)).stem
        if stem not in self.masks:
            msg = f"{image} has no region of interest: expected {Path(self.source) / stem}.png or {stem}{SUFFIX}.png."
            raise ValueError(msg)
        height, width, bits = self.masks[stem]
        if (height, width) != (size[0], size[1]):
            mask = self.source if self.fixed else Path(self.source) / stem
            msg = (
                f"The region of interest {mask} is {width} x {height} pixels, {image or 'the image'} {size[1]} x "
                f"{size[0]}. Save the mask at the size of the image."
            )
            raise ValueError(msg)
        return height, width, bits


def _packed(path: Path) -> PackedMask:
    mask = read_marks(path) > 0
    if not mask.any():
        msg = f"The region of interest {path} marks nothing: no pixel would count. Pixels that are not black count."
        raise ValueError(msg)
    bits = zlib.compress(np.packbits(mask).tobytes())
    return mask.shape[0], mask.shape[1], np.frombuffer(bits, np.uint8)


def _unpacked(mask: PackedMask) -> NDArray[np.bool_]:
    height, width, bits = mask
    packed = np.frombuffer(zlib.decompress(bits.tobytes()), np.uint8)
    return np.unpackbits(packed, count=height * width).reshape(height, width).astype(bool)
