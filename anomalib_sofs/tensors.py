"""Image and mask files as tensors."""

from pathlib import Path

import torch
from torch import Tensor

from anomalib_sofs.annotations.masks import read_marks
from anomalib_sofs.images import read_pixels


def read_image(path: str | Path) -> Tensor:
    """Read an image as RGB ``(3, H, W)`` float32 in [0, 1], see :func:`~anomalib_sofs.images.read_pixels`."""
    return torch.from_numpy(read_pixels(path))


def read_mask(path: str | Path) -> Tensor:
    """Read a mask ``(H, W)`` uint8: 0 normal, 1 defect, 255 ignored.

    See :func:`~anomalib_sofs.annotations.masks.read_marks`.
    """
    return torch.from_numpy(read_marks(path))
