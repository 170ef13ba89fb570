"""Sliding windows in an exported graph with dynamic sides: loops over windows, and over bands in which they are merged.

Placement is the same index arithmetic as in eager mode.
"""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from .arrays import bilinear
from .window_loop import ANY, Body, WindowLoops, current_loops
from .windows import Axis, Windows, applied, clamped, divided, placed, reflect, split


def in_graph(
    image: Tensor, segment: Callable[[Tensor], Tensor], windows: Windows, groups: int
) -> Sequence[Tensor] | None:
    """Segment an image in a graph that is being exported; ``None`` where there is none, or it has no loops.

    A run in eager mode before the graph is traced tells what windows go through.
    """
    loops = current_loops()
    if loops is None:
        return None
    if torch.compiler.is_compiling():
        rows, columns = (place(length, windows) for length in image.shape[-2:])
        return _apply(image, rows, columns, windows, loops, groups)

    def prepared(windows: Tensor) -> Tensor:
        return segment(loops.prepare(windows))

    found: Tensor = applied(image, prepared, windows)
    loops.remember(prepared, found.shape[1])
    return split(found, groups)


def place(length: int, windows: Windows) -> Axis:
    """Place windows along an axis whose length may be a symbol."""
    if isinstance(length, int):
        return Axis.place(length, windows)
    size, count, step, band, bands = placed(_on_a_tensor(length), windows)
    return Axis(
        length,
        windows.size if windows.fixed else _symbol(size),
        _symbol(count),
        cast("int", step),
        _symbol(band),
        _symbol(bands),
    )


def as_symbol(length: int) -> int:
    """Return a length that is a formula as a symbol of its own.

    Formulas in the image's side would be carried along by all shapes that follow, and tracing would take minutes.
    """
    return length if isinstance(length, int) else _symbol(_on_a_tensor(length))


def _on_a_tensor(length: int) -> Tensor:
    return torch.arange(length).amax(0) + 1


def _symbol(number: Tensor) -> int:
    """Read a number off a tensor; in a graph it is a new symbol, of which nothing is known but that it is positive."""
    value = cast("int", number.item())
    torch._check(value >= 1)  # noqa: SLF001 - the documented way
    return value


def _source(axis: Axis) -> Tensor:
    """Return what :meth:`Axis.source` does; sizes are symbols."""
    starts = torch.arange(axis.count) * axis.step
    return reflect(starts[:, None] + torch.arange(axis.size), axis.length)


def _sources(axis: Axis, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and the last window that covers a pixel; they are the same where there is but one."""
    first = divided(clamped(pixels - axis.size + axis.step, 0), axis.step)
    last = torch.minimum(divided(pixels, axis.step), torch.full_like(pixels, axis.count - 1))
    return first, torch.maximum(first, last)


def _apply(
    image: Tensor, rows: Axis, columns: Axis, windows: Windows, loops: WindowLoops, groups: int
) -> Sequence[Tensor]:
    """Do the same in a graph: a loop over all windows, then one over bands for each group, in which they are merged.

    Groups have a loop each, as what became of one may be gone when the next is merged.
    """
    grid = (rows.count, columns.count)
    scanned = (
        _source(rows)[:, None].expand(*grid, rows.size).flatten(0, 1),
        _source(columns)[None].expand(*grid, columns.size).flatten(0, 1),
    )
    segment, count = loops.next()
    maps = loops.run(_segmentation(windows, segment), scanned, (image,), (image.shape[0], count, ANY, ANY))

    # a band is so high that its pixels lie in two rows of windows
    pixels = torch.arange(rows.bands)[:, None] * rows.band + torch.arange(rows.band)
    pixels = pixels.clamp(max=rows.length - 1)
    pair = torch.cat([_sources(rows, pixels[:, :1])[0], _sources(rows, pixels[:, -1:])[1]], 1)
    numbers = (pair[..., None] * columns.count + torch.arange(columns.count)).flatten(1)
    picked = [pixels - r * rows.step + (r - pair[:, :1]) * rows.size for r in _sources(rows, pixels)]
    across = torch.arange(columns.length)
    whole = [across + q * (columns.size - columns.step) for q in _sources(columns, across)]
    each = count // groups
    shape = (image.shape[0], each, rows.band, columns.length)
    sides = [torch.arange(axis.size) for axis in (rows, columns)]
    of_groups = [
        loops.run(_MERGING, (numbers, *picked), (maps, channels, *whole, *sides), shape)
        for channels in (torch.arange(i * each, (i + 1) * each) for i in range(groups))
    ]
    return [merged.permute(1, 2, 0, 3, 4).flatten(2, 3).narrow(2, 0, rows.length) for merged in of_groups]


def _segmentation(windows: Windows, segment: Callable[[Tensor], Tensor]) -> Body:
    """Cut a window out of the image and segment it."""

    def segmented(ys: Tensor, xs: Tensor, image: Tensor) -> Tensor:
        return segment(image.index_select(2, ys).index_select(3, xs))

    height, width = (windows.size,) * 2 if windows.fixed else (2 * windows.least, 3 * windows.least)

    def examples() -> tuple[Tensor, ...]:
        return torch.arange(height), torch.arange(width), torch.rand(2, 3, height + 1, width + 1)

    return Body(segmented, examples, (height,) if windows.fixed else ())


def merged(
    numbers: Tensor,
    first: Tensor,
    last: Tensor,
    maps: Tensor,
    channels: Tensor,
    left: Tensor,
    right: Tensor,
    *sides: Tensor,
) -> Tensor:
    """Merge two rows of windows into a band of the image: the mean over the windows that cover a pixel.

    Args:
        numbers: Of the windows, Q of each row ``(2 * Q,)``.
        first: Row behind each pixel's row in the first window that covers it, rows of both windows counted on ``(s,)``.
        last: Likewise in the last window ``(s,)``.
        maps: Of all windows ``(n, B, N, h', w')``, as large as these or smaller. They are enlarged here, band by band:
            those of all windows are a large part of the memory.
        channels: Of these the C that are wanted ``(C,)``.
        left: Column behind each pixel's column in the first window, of Q windows side by side ``(W,)``.
        right: Likewise in the last window ``(W,)``.
        sides: As many numbers as a window is high ``(h,)``, then wide ``(w,)``.

    Returns:
        ``(B, C, s, W)``.
    """
    b, c = maps.shape[1], channels.shape[0]
    h, w = (side.shape[0] for side in sides)
    chosen = bilinear(maps.index_select(0, numbers).index_select(2, channels).flatten(0, 1), (h, w))
    side_by_side = chosen.reshape(2, -1, b, c, h, w).permute(2, 3, 0, 4, 1, 5).reshape(b, c, 2 * h, -1)
    strip = (side_by_side.index_select(2, first) + side_by_side.index_select(2, last)) / 2
    return (strip.index_select(3, left) + strip.index_select(3, right)) / 2


def _merged_examples() -> tuple[Tensor, ...]:
    return (*map(torch.arange, (4, 3, 3)), torch.rand(4, 2, 3, 5, 6), *map(torch.arange, (2, 7, 7, 10, 12)))


_MERGING = Body(merged, _merged_examples)
