"""Sliding windows at native resolution: every pixel covered, maps averaged where windows overlap.

Placement is index arithmetic on tensors, the same in eager mode and inside an exported graph with dynamic height and
width. A graph segments all windows as one batch and merges them by matrices; eager mode goes window by window.
"""

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import SymInt, Tensor

SMALLEST_SIDE = 64
OVERLAP = 0.25  # least share of a window that it has in common with its neighbour


def larger(a: int | SymInt, b: int | SymInt) -> int:
    """Return the larger number; in a graph with dynamic sides it is a symbolic one, which behaves like an integer."""
    return cast("int", torch.sym_max(a, b))


def smaller(a: int | SymInt, b: int | SymInt) -> int:
    """Return the smaller number, see :func:`larger`."""
    return cast("int", torch.sym_min(a, b))


class Windows(NamedTuple):
    """What windows a head takes."""

    size: int = 512
    """Largest side in pixels."""
    multiple: int = 32
    """Sides are a multiple of this number of pixels."""
    fixed: bool = False
    """Whether both sides are always ``size``, on smaller images, too."""

    def side(self, length: int) -> int:
        """Return the side of a window in pixels: the image's, up to a multiple, but at most the size.

        Never below 64 pixels: a feature map of one cell would be taken for a constant when a graph is exported.
        """
        if self.fixed:
            return self.size
        least = -(-min(SMALLEST_SIDE, self.size) // self.multiple)
        # a multiple of a minimum, not the other way round: this is the form that symbolic shapes simplify
        cells = torch.sym_min(self.size // self.multiple, (length + self.multiple - 1) // self.multiple)
        return self.multiple * larger(least, cells)

    def fill(self, window: Tensor) -> Tensor:
        """Continue a part of an image ``(..., H, W)``, no larger than a window, by reflection to a window's sides."""
        return continue_to(window, self.side(window.shape[-2]), self.side(window.shape[-1]))


class Axis:
    """Placement of windows along one image axis.

    Windows are spread evenly from the first to the last pixel. An image shorter than a window is continued by
    reflection; the continuation is cut off again where windows are merged.

    Args:
        length: Image pixels along the axis.
        windows: What windows to place.
        device: Where the index tensors live.
    """

    def __init__(self, length: int, windows: Windows, device: torch.device) -> None:
        self.length = length
        self.size = windows.side(length)
        step = windows.size - int(windows.size * OVERLAP)
        slack = larger(length - self.size, 0)
        self.count = (slack + step - 1) // step + 1
        starts = torch.arange(self.count, device=device) * slack // larger(self.count - 1, 1)
        self.pixels = starts[:, None] + torch.arange(self.size, device=device)

    @property
    def source(self) -> Tensor:
        """Image pixel behind each window pixel ``(count, size)``, reflected at the far border."""
        return reflect(self.pixels, self.length)

    def merge_matrix(self) -> Tensor:
        """Averaging matrix ``(length, count * size)`` that takes window pixels back to image pixels."""
        image = torch.arange(self.length, device=self.pixels.device)
        hit = (self.pixels.flatten()[None] == image[:, None]).float()
        return hit / hit.sum(dim=1, keepdim=True)


def reflect(pixels: Tensor, length: int) -> Tensor:
    """Map positions beyond either end of an axis back into ``[0, length)`` by reflection, however far they lie."""
    # tensors, not Python integers: the ONNX exporter has no remainder by a symbolic number
    period = torch.full_like(pixels, larger(2 * (length - 1), 1))
    folded = pixels.remainder(period)
    return torch.minimum(folded, period - folded).clamp(max=length - 1)


def continue_to(image: Tensor, height: int, width: int) -> Tensor:
    """Continue an image ``(..., H, W)`` by reflection at its bottom and right to ``(..., height, width)``."""
    rows = reflect(torch.arange(height, device=image.device), image.shape[-2])
    columns = reflect(torch.arange(width, device=image.device), image.shape[-1])
    return image.index_select(-2, rows).index_select(-1, columns)


def apply_in_windows(image: Tensor, segment: Callable[[Tensor], Tensor], windows: Windows) -> Tensor:
    """Segment an image of any size window by window.

    Args:
        image: ``(B, 3, H, W)``.
        segment: Maps windows ``(n, 3, h, w)`` to maps ``(n, C, h, w)``.
        windows: What windows it takes.

    Returns:
        Maps ``(B, C, H, W)``: the mean over all windows that cover a pixel.
    """
    batch, channels, height, width = image.shape
    rows = Axis(height, windows, image.device)
    columns = Axis(width, windows, image.device)
    if torch.compiler.is_compiling():
        # one batch of all windows: a Python loop over a symbolic number of them cannot be traced
        spread = image.index_select(2, rows.source.flatten()).index_select(3, columns.source.flatten())
        spread = spread.reshape(batch, channels, rows.count, rows.size, columns.count, columns.size)
        maps = segment(spread.permute(0, 2, 4, 1, 3, 5).flatten(0, 2))
        maps = maps.reshape(batch, rows.count, columns.count, -1, rows.size, columns.size)
        maps = maps.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
        return rows.merge_matrix() @ maps @ columns.merge_matrix().T
    # one window at a time: memory stays bounded however large the image is
    total, count = image.new_zeros(()), image.new_zeros(height, width)
    for ys in rows.source:
        strip = image.index_select(2, ys)
        for xs in columns.source:
            maps = segment(strip.index_select(3, xs))
            if total.ndim == 0:
                total = maps.new_zeros(batch, maps.shape[1], height, width)
            # positions ascend from the first one; what lies beyond the border is the reflection
            inside = (
                slice(int(ys[0]), min(int(ys[0]) + len(ys), height)),
                slice(int(xs[0]), min(int(xs[0]) + len(xs), width)),
            )
            total[..., inside[0], inside[1]] += maps[
                ..., : inside[0].stop - inside[0].start, : inside[1].stop - inside[1].start
            ]
            count[inside] += 1
    return total / count
