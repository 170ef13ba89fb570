"""Sliding windows at native resolution: every pixel covered, maps averaged where windows overlap.

Placement is index arithmetic, the same in eager mode and inside an exported graph with dynamic height and width. Both
take one window after the other, so that memory stays bounded however large the image is.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar, cast

import torch
from torch import SymInt, Tensor

from .window_loop import Body, WindowLoops, current_loops

SMALLEST_SIDE = 64
OVERLAP = 1 / 8
"""Least share of a window that it has in common with its neighbour."""

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
    """Largest side in pixels of a crop of the support; that of a query's window is :attr:`most`."""
    multiple: int = 32
    """Sides are a multiple of this number of pixels."""
    fixed: bool = False
    """Whether both sides are always ``size``, on smaller images, too."""

    @property
    def least(self) -> int:
        """Smallest side: a feature map of one cell would be taken for a constant when a graph is exported."""
        return self.size if self.fixed else self.multiple * -(-min(SMALLEST_SIDE, self.size) // self.multiple)

    @property
    def most(self) -> int:
        """Largest side of a query's window, a little more than the size: 1024 pixels are two windows, not three."""
        more = _divided_up(int(self.size * OVERLAP), self.multiple) * self.multiple
        return self.size if self.fixed else self.size + more

    def side(self, length: int) -> int:
        """Return the side of a window in pixels around a part of an image: the part's, up to a multiple."""
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
    count: int  # type: ignore[assignment]  # hides that of tuples
    """Windows."""
    step: int
    """Pixels from the start of one window to that of the next."""
    band: int
    """Pixels of the bands in which windows are merged: they lie in no more than two windows."""
    bands: int
    """Bands."""

    @classmethod
    def place(cls, length: int, windows: Windows) -> "Axis":
        """Place windows along an axis of so many pixels."""
        if isinstance(length, int):
            return cls(length, *_placed(length, windows))
        # A graph with dynamic sides: the numbers are read off tensors, so that they are symbols of their own. Formulas
        # in the image's side would be carried along by all shapes that follow, and tracing would take minutes.
        size, count, step, band, bands = _placed(torch.arange(length).amax(0) + 1, windows)
        return cls(
            length,
            windows.size if windows.fixed else _symbol(size),
            _symbol(count),
            cast("int", step),
            _symbol(band),
            _symbol(bands),
        )

    @property
    def source(self) -> Tensor:
        """Image pixel behind each window pixel ``(count, size)``, reflected at the far border."""
        starts = torch.arange(self.count) * self.step
        return reflect(starts[:, None] + torch.arange(self.size), self.length)

    def sources(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first and the last window that covers a pixel; they are the same where there is but one."""
        first = _divided(_clamped(pixels - self.size + self.step, 0), self.step)
        last = torch.minimum(_divided(pixels, self.step), torch.full_like(pixels, self.count - 1))
        return first, torch.maximum(first, last)


def _symbol(number: Tensor) -> int:
    """Read a number off a tensor; in a graph it is a new symbol, of which nothing is known but that it is positive."""
    value = cast("int", number.item())
    torch._check(value >= 1)  # noqa: SLF001 - the documented way
    return value


def _placed(length: Number, windows: Windows) -> tuple[Number, Number, Number, Number, Number]:
    """Return size, count and step of the windows along an axis, then size and number of the bands."""
    overlap = int(windows.size * OVERLAP)
    count = _divided_up(_clamped(length - overlap, 1), windows.most - overlap)
    if windows.fixed:
        size: Number = count * 0 + windows.size  # a tensor where the length is one
    else:
        # as few windows as possible, and those as small as possible
        cells = _divided_up(length + (count - 1) * overlap, count * windows.multiple)
        size = _clamped(cells * windows.multiple, windows.least, windows.most)
    slack = _clamped(length - size, 0)
    # of three windows and more, none reaches beyond the start of the next but one
    step = _larger_of(_divided_up(slack, _clamped(count - 1, 1)), (count > 2) * _divided(size, 2))  # noqa: PLR2004
    step = _clamped(step, 1)
    band = (count > 2) * step + (count <= 2) * size  # noqa: PLR2004
    return size, count, step, band, _divided_up(length, band)


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
    loops = current_loops()
    if loops is not None and torch.compiler.is_compiling():
        return _apply_in_graph(image, rows, columns, windows, loops)
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
    if loops is not None:
        loops.segment, loops.maps = segment, total.shape[1]
    return total / count


def _apply_in_graph(image: Tensor, rows: Axis, columns: Axis, windows: Windows, loops: WindowLoops) -> Tensor:
    """Do the same in a graph: a loop over all windows, then one over bands of the image, in which they are merged."""
    grid = (rows.count, columns.count)
    scanned = (
        rows.source[:, None].expand(*grid, rows.size).flatten(0, 1),
        columns.source[None].expand(*grid, columns.size).flatten(0, 1),
    )
    shape = (image.shape[0], loops.maps, rows.size, columns.size)
    maps = loops.run(_segmentation(windows, loops), scanned, (image,), shape)

    # a band is so high that its pixels lie in two rows of windows
    pixels = torch.arange(rows.bands)[:, None] * rows.band + torch.arange(rows.band)
    pixels = pixels.clamp(max=rows.length - 1)
    pair = torch.cat([rows.sources(pixels[:, :1])[0], rows.sources(pixels[:, -1:])[1]], 1)
    numbers = (pair[..., None] * columns.count + torch.arange(columns.count)).flatten(1)
    picked = [pixels - r * rows.step + (r - pair[:, :1]) * rows.size for r in rows.sources(pixels)]
    across = torch.arange(columns.length)
    whole = [across + q * (columns.size - columns.step) for q in columns.sources(across)]
    shape = (image.shape[0], loops.maps, rows.band, columns.length)
    merged = loops.run(_MERGING, (numbers, *picked), (maps, *whole), shape)
    return merged.permute(1, 2, 0, 3, 4).flatten(2, 3).narrow(2, 0, rows.length)


def _segmentation(windows: Windows, loops: WindowLoops) -> Body:
    """Cut a window out of the image and segment it."""

    def segmented(ys: Tensor, xs: Tensor, image: Tensor) -> Tensor:
        return loops.segment(image.index_select(2, ys).index_select(3, xs))

    height, width = (windows.size,) * 2 if windows.fixed else (2 * windows.least, 3 * windows.least)

    def examples() -> tuple[Tensor, ...]:
        return torch.arange(height), torch.arange(width), torch.rand(2, 3, height + 1, width + 1)

    return Body(segmented, examples, (height,) if windows.fixed else ())


def merged(numbers: Tensor, first: Tensor, last: Tensor, maps: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Merge two rows of windows into a band of the image: the mean over the windows that cover a pixel.

    Args:
        numbers: Of the windows, Q of each row ``(2 * Q,)``.
        first: Row behind each pixel's row in the first window that covers it, rows of both windows counted on ``(s,)``.
        last: Likewise in the last window ``(s,)``.
        maps: Of all windows ``(n, B, C, h, w)``.
        left: Column behind each pixel's column in the first window, of Q windows side by side ``(W,)``.
        right: Likewise in the last window ``(W,)``.

    Returns:
        ``(B, C, s, W)``.
    """
    chosen = maps.index_select(0, numbers)
    _, b, c, h, w = chosen.shape
    side_by_side = chosen.reshape(2, -1, b, c, h, w).permute(2, 3, 0, 4, 1, 5).reshape(b, c, 2 * h, -1)
    strip = (side_by_side.index_select(2, first) + side_by_side.index_select(2, last)) / 2
    return (strip.index_select(3, left) + strip.index_select(3, right)) / 2


def _merged_examples() -> tuple[Tensor, ...]:
    return (*(torch.arange(n) for n in (4, 3, 3)), torch.rand(4, 2, 2, 5, 6), *(torch.arange(n) for n in (7, 7)))


_MERGING = Body(merged, _merged_examples)
