"""A loop as one operator, so that an exported graph takes one window after the other instead of all at once.

torch's exporter cannot trace a Python loop over a symbolic number of windows, its own loop operators trace their body
half a dozen times with symbolic sizes, and OpenVINO runs only some of them. So a loop is an operator that the exporter
takes as it is, and what is done in it is recorded by itself (``model/exporting/loop.py``).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

ANY = -1
"""A size of which nothing is known before a graph runs."""


class Body(NamedTuple):
    """What a loop does each time."""

    function: Callable[..., Tensor]
    """Of one row of each tensor that is scanned, and of the whole other ones."""
    examples: Callable[[], tuple[Tensor, ...]]
    """Makes arguments to record it with; no side is 1, which would be taken for a constant."""
    fixed: tuple[int, ...] = ()
    """Sizes that no other arguments have otherwise; all others are free."""


class Segmentation(NamedTuple):
    """What the windows of an image go through."""

    segment: Callable[[Tensor], Tensor]
    """Maps windows ``(B, 3, h, w)`` to maps ``(B, C, h, w)``."""
    maps: int
    """Maps per window, C."""


def unchanged(windows: Tensor) -> Tensor:
    """Return windows as they are."""
    return windows


class WindowLoops:
    """Remembers from a run in eager mode what windows go through, and the loops of the graph that is traced then."""

    def __init__(self) -> None:
        self.bodies: list[Body] = []
        self.prepare: Callable[[Tensor], Tensor] = unchanged
        """What is done with pixels: window by window, as a graph keeps every copy of the whole image till its end."""
        self._seen: list[Segmentation] = []
        self._traced = 0

    def remember(self, segment: Callable[[Tensor], Tensor], maps: int) -> None:
        """Remember what the windows of an image went through in eager mode."""
        self._seen.append(Segmentation(segment, maps))

    def next(self) -> "Segmentation":
        """Return what windows go through in the graph: in the order, and as often, as in eager mode."""
        self._traced += 1
        return self._seen[(self._traced - 1) % len(self._seen)]

    def run(self, body: Body, scanned: Sequence[Tensor], whole: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
        """Do something for each row of the scanned tensors ``(n, ...)``; results ``(n, *shape)``, see :data:`ANY`."""
        self.bodies.append(body)
        return in_loop(len(self.bodies) - 1, list(scanned), list(whole), list(shape))


_current: list[WindowLoops] = []


@contextmanager
def exporting_loops() -> Iterator[WindowLoops]:
    """Make graphs that are traced inside hold loops; the model has to be run once in eager mode before."""
    _current.append(WindowLoops())
    try:
        yield _current[-1]
    finally:
        _current.pop()


def current_loops() -> WindowLoops | None:
    """Return the loops of the export that is going on."""
    return _current[-1] if _current else None


@torch.library.custom_op("anomalib_sofs::in_loop", mutates_args=())
def in_loop(body: int, scanned: Sequence[Tensor], whole: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """Run a body, by its number, for each row of the scanned tensors."""
    del shape
    function = _current[-1].bodies[body].function
    return torch.stack([function(*rows, *whole) for rows in zip(*scanned, strict=True)])


@in_loop.register_fake
def _(body: int, scanned: Sequence[Tensor], whole: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    del body
    sides = [side if side != ANY else torch.library.get_ctx().new_dynamic_size() for side in shape]
    return torch.empty(scanned[0].shape[0], *sides, device=whole[0].device)
