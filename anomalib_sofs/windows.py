"""Sliding windows at native resolution: every pixel covered, maps averaged where windows overlap.

Placement is index arithmetic, the same in eager mode and inside an exported graph with dynamic height and width. Both
take one window after the other, so that memory stays bounded however large the image is.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar, cast

import torch
from torch import SymInt, Tensor

from .window_loop import current_loop, segment_windows

SMALLEST_SIDE = 64
OVERLAP = 0.25  # least share of a window that it has in common with its neighbour

Number = TypeVar("Number", int, Tensor)


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

    @property
    def least(self) -> int:
        """Smallest side: a feature map of one cell would be taken for a constant when a graph is exported."""
        return self.size if self.fixed else self.multiple * -(-min(SMALLEST_SIDE, self.size) // self.multiple)

    def side(self, length: Number) -> Number:
        """Return the side of a window in pixels: the image's, up to a multiple, but at most the size."""
        return _clamped(_divided_up(length, self.multiple) * self.multiple, self.least, self.size)

    def fill(self, window: Tensor) -> Tensor:
        """Continue a part of an image ``(..., H, W)``, no larger than a window, by reflection to a window's sides."""
        return continue_to(window, self.side(window.shape[-2]), self.side(window.shape[-1]))


def _clamped(number: Number, least: int, most: int | None = None) -> Number:
    if isinstance(number, Tensor):
        return number.clamp(least, most)
    return max(number, least) if most is None else min(max(number, least), most)


def _larger_of(a: Number, b: Number) -> Number:
    return torch.maximum(a, b) if isinstance(a, Tensor) else max(a, b)


def _divided(number: Number, by: Number | int) -> Number:
    """Divide numbers that are not negative, rounded down; of tensors, what OpenVINO reads (not ``floor_divide``)."""
    return torch.div(number, by, rounding_mode="trunc") if isinstance(number, Tensor) else number // by


def _divided_up(number: Number, by: Number | int) -> Number:
    return _divided(number + by - 1, by)


class Axis(NamedTuple):
    """Placement of windows along one image axis: at 0, ``step``, 2 ``step``, ... pixels.

    An image that does not fill its last window is continued by reflection; the continuation is cut off again where
    windows are merged. No pixel lies in more than two windows.
    """

    length: int
    """Pixels of the image."""
    size: int
    """Pixels of a window."""
    count: int
    """Windows."""
    step: int
    """Pixels from the start of one window to that of the next."""

    @classmethod
    def place(cls, length: int, windows: Windows) -> "Axis":
        """Place windows along an axis of so many pixels."""
        if isinstance(length, int):
            return cls(length, *_placed(length, windows))
        # A graph with dynamic sides: the numbers are read off tensors, so that they are symbols of their own. Formulas
        # in the image's side would be carried along by all shapes that follow, and tracing would take minutes.
        size, count, step = _placed(torch.arange(length).amax(0) + 1, windows)
        side = windows.multiple * _symbol(_divided(size, windows.multiple), windows.least // windows.multiple)
        return cls(length, windows.size if windows.fixed else side, _symbol(count, 1), cast("int", step))

    @property
    def source(self) -> Tensor:
        """Image pixel behind each window pixel ``(count, size)``, reflected at the far border."""
        starts = torch.arange(self.count) * self.step
        return reflect(starts[:, None] + torch.arange(self.size), self.length)

    def merged(self, maps: Tensor, dim: int) -> Tensor:
        """Take windows that lie one after the other along ``dim`` (``count * size``) to pixels (``length``): the mean."""
        pixels = torch.arange(self.length, device=maps.device)
        first = _divided(_clamped(pixels - self.size + self.step, 0), self.step)
        last = torch.minimum(_divided(pixels, self.step), torch.full_like(pixels, self.count - 1))
        parts = [maps.index_select(dim, pixels + window * (self.size - self.step)) for window in (first, last)]
        return (parts[0] + parts[1]) / 2


def _symbol(number: Tensor, least: int) -> int:
    """Read a number off a tensor; in a graph it is a new symbol, of which nothing is known but a lower bound."""
    value = cast("int", number.item())
    torch._check(value >= least)
    return value


def _placed(length: Number, windows: Windows) -> tuple[Number, Number, Number]:
    """Return size, count and step of the windows along an axis of so many pixels."""
    size: Number = windows.size if windows.fixed else windows.side(length)  # type: ignore[assignment]
    slack = _clamped(length - size, 0)
    count = _divided_up(slack, windows.size - int(windows.size * OVERLAP)) + 1
    step = _clamped(_divided_up(slack, _clamped(count - 1, 1)), 1)
    # of three windows and more, none reaches beyond the start of the next but one
    return size, count, _larger_of(step, (count > 2) * _divided(size, 2))  # noqa: PLR2004


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
        segment: Maps windows ``(B, 3, h, w)`` to maps ``(B, C, h, w)``.
        windows: What windows it takes.

    Returns:
        Maps ``(B, C, H, W)``: the mean over all windows that cover a pixel.
    """
    rows, columns = (Axis.place(length, windows) for length in image.shape[-2:])
    loop = current_loop()
    if loop is not None and torch.compiler.is_compiling():
        return _apply_in_graph(image, rows, columns)
    height, width = image.shape[-2:]
    total, count = image.new_zeros(()), image.new_zeros(height, width)
    for ys in rows.source.to(image.device):
        strip = image.index_select(2, ys)
        for xs in columns.source.to(image.device):
            maps = segment(strip.index_select(3, xs))
            if total.ndim == 0:
                total = maps.new_zeros(*maps.shape[:2], height, width)
            # positions ascend from the first one; what lies beyond the border is the reflection
            inside = (
                slice(int(ys[0]), min(int(ys[0]) + len(ys), height)),
                slice(int(xs[0]), min(int(xs[0]) + len(xs), width)),
            )
            total[..., inside[0], inside[1]] += maps[
                ..., : inside[0].stop - inside[0].start, : inside[1].stop - inside[1].start
            ]
            count[inside] += 1
    if loop is not None:
        loop.segment, loop.maps, loop.multiple, loop.device = segment, total.shape[1], windows.multiple, image.device
        loop.fixed = windows.size if windows.fixed else None
    return total / count


def _apply_in_graph(image: Tensor, rows: Axis, columns: Axis) -> Tensor:
    """Do the same in a graph: a loop over all windows, whose maps are merged at once."""
    grid = (rows.count, columns.count)
    ys = rows.source[:, None].expand(*grid, rows.size).flatten(0, 1)
    xs = columns.source[None].expand(*grid, columns.size).flatten(0, 1)
    maps = segment_windows(image, ys, xs).unflatten(0, grid)
    maps = maps.permute(2, 3, 0, 4, 1, 5).flatten(4, 5).flatten(2, 3)
    return columns.merged(rows.merged(maps, -2), -1)
