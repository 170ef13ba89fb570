"""Parts of the normal support that were left out of its description: what is found in them is normal."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from anomalib_sofs.arrays import Array

FOLDS = 8
"""Most times that the support is described anew, however many images there are."""
QUARTERS = [(rows, columns) for rows in (0, 1) for columns in (0, 1)]

Views = list[list[Array]]


class HeldOut(NamedTuple):
    """A view or part of one, and what is left without it."""

    rest: Views
    """The other views."""
    sources: list[int]
    """Numbers of the images that these show."""
    part: list[Array]
    """The view, or part of one."""
    typical: bool
    """Whether it stands for a query: with several images, their turned views are only there to be compared with."""


def held_out(views: Views, sources: Sequence[int], *, as_it_lies: bool = False) -> Iterator[HeldOut]:
    """Hold out a view or part of one after the other.

    Args:
        views: Per crop one ``(1, D_l, h_l, w_l)`` per layer.
        sources: Number of the image that each of them shows.
        as_it_lies: Hold out only the first view of each of several images; its turned views are compared with.

    Yields:
        With several images all but a fold of them, and each view of that fold; with several views of one image all
        others, and each of them; with a single view three of its quarters, and the fourth. A view that is too small for
        quarters (one cell across in a layer) is compared with itself.
    """
    images = sorted(set(sources))
    if len(images) > 1:
        first = {sources.index(image) for image in images}
        for fold in range(min(FOLDS, len(images))):
            members = set(images[fold::FOLDS])
            out = [i for i, source in enumerate(sources) if source in members and (i in first or not as_it_lies)]
            rest = sorted(set(range(len(views))).difference(out))
            kept = [views[i] for i in rest], [sources[i] for i in rest]
            for i in out:
                yield HeldOut(*kept, views[i], typical=i in first)
        return
    parts = views if len(views) > 1 else _quarters(views[0])
    for i, part in enumerate(parts):
        others = [other for j, other in enumerate(parts) if j != i] or parts
        yield HeldOut(others, [0] * len(others), part, typical=True)


def _quarters(view: list[Array]) -> Views:
    """Cut a view into quarters, at the same place in every layer; one that is too small stays as it is."""
    if min(min(layer.shape[-2:]) for layer in view) < 2:  # noqa: PLR2004 - a quarter needs a cell
        return [view]

    def half(length: int, which: int) -> slice:
        return slice(0, length // 2) if which == 0 else slice(length // 2, length)

    return [
        [layer[..., half(layer.shape[-2], row), half(layer.shape[-1], column)] for layer in view]
        for row, column in QUARTERS
    ]
