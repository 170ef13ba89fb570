"""Resizing whole images without losing thin things: every source pixel has its share in the result.

Filters are matrices, so that eager and exported graphs compute the same: antialiased interpolation inside an exported
graph gives other values.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs.windows import Windows, larger, smaller


def fitted_size(height: int, width: int, longest: int) -> tuple[int, int]:
    """Return the sides ``(height, width)`` in pixels of an image whose longest side becomes ``longest``."""
    side = larger(height, width)
    return (
        larger((height * longest + side // 2) // side, 1),
        larger((width * longest + side // 2) // side, 1),
    )


def shrunk(image: Tensor, windows: Windows) -> Tensor:
    """Resize images ``(B, C, H, W)`` so that they fit into a window; smaller ones grow for fixed windows only."""
    return resize_image(image, window_fit(image.shape[-2], image.shape[-1], windows))


def window_fit(height: int, width: int, windows: Windows) -> tuple[int, int]:
    """Return the sides ``(height, width)`` in pixels of a whole image that is brought into a window."""
    longest = windows.size if windows.fixed else smaller(larger(height, width), windows.size)
    return fitted_size(height, width, longest)


def triangle_filter(length: int, size: int, like: Tensor) -> Tensor:
    """Return the matrix ``(size, length)`` of antialiased linear interpolation along an axis.

    Args:
        length: Pixels of the source.
        size: Pixels of the result.
        like: Tensor whose dtype and device the matrix gets.
    """
    # whole numbers as long as possible: rounded positions would give each engine weights of its own
    centres = (2 * torch.arange(size, device=like.device) + 1) * length
    pixels = (2 * torch.arange(length, device=like.device) + 1) * size
    widest = torch.full((1,), 2 * larger(length, size), device=like.device)
    weights = (1 - (pixels - centres[:, None]).abs() / widest).clamp_min(0)
    return (weights / weights.sum(dim=1, keepdim=True)).to(like)


def area_filter(length: int, size: int, like: Tensor) -> Tensor:
    """Return the matrix ``(size, length)`` that averages along an axis, each pixel by the part of it that is covered.

    Args:
        length: Pixels of the source.
        size: Pixels of the result.
        like: Tensor whose dtype and device the matrix gets.
    """
    scale = length / size
    start = torch.arange(size, device=like.device)[:, None] * scale
    pixels = torch.arange(length, device=like.device)
    covered = torch.minimum(pixels + 1, start + scale) - torch.maximum(pixels, start)
    return (covered.clamp_min(0) / scale).to(like)


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize images ``(..., C, H, W)`` to ``(..., C, *size)``, antialiased, as torchvision and Pillow do."""
    if torch.compiler.is_compiling():
        return _filtered(image, size, triangle_filter)
    if image.shape[-2:] == size:
        return image
    # the same, faster
    batch = image.reshape(-1, 1, *image.shape[-2:])
    resized = F.interpolate(batch, size=size, mode="bilinear", align_corners=False, antialias=True)
    return resized.reshape(*image.shape[:-2], *size)


def resize_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize masks ``(..., H, W)`` by area: a pixel of the result holds its share of defect, in [0, 1]."""
    return _filtered(mask.float(), size, area_filter).clamp(0, 1)


def _filtered(x: Tensor, size: tuple[int, int], make: Callable[[int, int, Tensor], Tensor]) -> Tensor:
    return make(x.shape[-2], size[0], x) @ x @ make(x.shape[-1], size[1], x).T
