"""Resizing whole images without losing thin things: every source pixel has its share in the result.

Filters are matrices, so that eager and exported graphs compute the same: antialiased interpolation inside an exported
graph gives other values.
"""

from collections.abc import Callable
from functools import partial

from array_api_compat import array_namespace, device, is_torch_array

from anomalib_sofs.arrays import Array, bilinear
from anomalib_sofs.windows import Windows, larger, smaller


def fitted_size(height: int, width: int, longest: int) -> tuple[int, int]:
    """Return the sides ``(height, width)`` in pixels of an image whose longest side becomes ``longest``."""
    side = larger(height, width)
    return (
        larger((height * longest + side // 2) // side, 1),
        larger((width * longest + side // 2) // side, 1),
    )


def shrunk(image: Array, windows: Windows) -> Array:
    """Resize images ``(B, C, H, W)`` so that they fit into a window; smaller ones grow for fixed windows only."""
    size = window_fit(image.shape[-2], image.shape[-1], windows)
    if _in_graph(image):
        from anomalib_sofs.window_graph import as_symbol  # noqa: PLC0415 - whoever has a tensor has torch

        size = as_symbol(size[0]), as_symbol(size[1])
    return resize_image(image, size)


def window_fit(height: int, width: int, windows: Windows) -> tuple[int, int]:
    """Return the sides ``(height, width)`` in pixels of a whole image that is brought into a window."""
    longest = windows.size if windows.fixed else smaller(larger(height, width), windows.size)
    return fitted_size(height, width, longest)


def triangle_filter(length: int, size: int, like: Array) -> Array:
    """Return the matrix ``(size, length)`` of antialiased linear interpolation along an axis.

    Args:
        length: Pixels of the source.
        size: Pixels of the result.
        like: Array whose dtype and device the matrix gets.
    """
    xp = array_namespace(like)
    here = partial(xp.arange, device=device(like))
    # whole numbers as long as possible: rounded positions would give each engine weights of its own
    centres = (2 * here(size) + 1) * length
    pixels = (2 * here(length) + 1) * size
    widest = xp.full((1,), 2 * larger(length, size), device=device(like))
    weights = (1 - xp.abs(pixels - centres[:, None]) / widest).clip(0, None)
    return xp.astype(weights / xp.sum(weights, axis=1, keepdims=True), like.dtype)


def area_filter(length: int, size: int, like: Array) -> Array:
    """Return the matrix ``(size, length)`` that averages along an axis, each pixel by the part of it that is covered.

    Args:
        length: Pixels of the source.
        size: Pixels of the result.
        like: Array whose dtype and device the matrix gets.
    """
    xp = array_namespace(like)
    scale = length / size
    start = xp.astype(xp.arange(size, device=device(like)), like.dtype)[:, None] * scale
    pixels = xp.arange(length, device=device(like))
    covered = xp.minimum(pixels + 1, start + scale) - xp.maximum(pixels, start)
    return xp.astype(covered.clip(0, None) / scale, like.dtype)


def resize_image(image: Array, size: tuple[int, int]) -> Array:
    """Resize images ``(..., C, H, W)`` to ``(..., C, *size)``, antialiased, as torchvision and Pillow do."""
    if _in_graph(image):
        return _filtered(image, size, triangle_filter)
    if image.shape[-2:] == size:
        return image
    # the same, faster
    xp = array_namespace(image)
    resized = bilinear(xp.reshape(image, (-1, 1, *image.shape[-2:])), size, antialias=True)
    return xp.reshape(resized, (*image.shape[:-2], *size))


def _in_graph(image: Array) -> bool:
    """Tell whether an image is that of a graph which is being exported, or of the body of one of its loops."""
    if not is_torch_array(image):
        return False
    from .modes import recording  # noqa: PLC0415 - whoever has a tensor has torch

    return recording()


def resize_mask(mask: Array, size: tuple[int, int]) -> Array:
    """Resize masks ``(..., H, W)`` by area: a pixel of the result holds its share of defect, in [0, 1]."""
    return _filtered(array_namespace(mask).astype(mask, array_namespace(mask).float32), size, area_filter).clip(0, 1)


def _filtered(x: Array, size: tuple[int, int], make: Callable[[int, int, Array], Array]) -> Array:
    return make(x.shape[-2], size[0], x) @ x @ make(x.shape[-1], size[1], x).T
