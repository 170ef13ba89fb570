"""The loop over windows as one operator, so that an exported graph can hold a loop instead of one batch of all windows.

torch's exporter cannot trace a Python loop over a symbolic number of windows, and its own loop operators trace their
body half a dozen times. So the loop is an operator that the exporter takes as it is; what a window goes through is
exported by itself and becomes the loop's body (``model/exporting``).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class WindowLoop:
    """Remembers what the windows of a model go through, from a run in eager mode to the export of the graph."""

    segment: Callable[[Tensor], Tensor]
    """Maps windows ``(B, 3, h, w)`` to maps ``(B, C, h, w)``."""
    maps: int
    """Maps per window, C."""
    multiple: int
    """Sides of windows are a multiple of this number of pixels."""
    fixed: int | None
    """Side of all windows, where there is but one."""
    device: torch.device
    """Where the windows are."""


_current: list[WindowLoop] = []


@contextmanager
def exporting_loop() -> Iterator[WindowLoop]:
    """Make graphs that are traced inside hold a loop; run the model once in eager mode before."""
    _current.append(WindowLoop())
    try:
        yield _current[-1]
    finally:
        _current.pop()


def current_loop() -> WindowLoop | None:
    """Return the loop that is being exported."""
    return _current[-1] if _current else None


@torch.library.custom_op("anomalib_sofs::segment_windows", mutates_args=())
def segment_windows(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Segment windows one after the other.

    Args:
        image: ``(B, 3, H, W)``.
        rows: Image rows behind those of each window ``(n, h)``.
        columns: Image columns behind those of each window ``(n, w)``.

    Returns:
        Maps ``(n, B, C, h, w)``.
    """
    windows = (image.index_select(2, ys).index_select(3, xs) for ys, xs in zip(rows, columns, strict=True))
    return torch.stack([_current[-1].segment(window) for window in windows])


@segment_windows.register_fake
def _(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return image.new_empty(rows.shape[0], image.shape[0], _current[-1].maps, rows.shape[1], columns.shape[1])
