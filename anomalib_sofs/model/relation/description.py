"""A support described in closed form: each crop is reduced by itself, and what stays of them is merged."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from anomalib_sofs.annotations.labels import DEFECT
from anomalib_sofs.arrays import Array, as_given, cell_means, full_precision, to_numpy

from .discriminant import clear_background
from .fine_statistics import FineImage, encode_fine, reduce_fine
from .statistics import CoarseImage, draw_exemplars, encode_coarse, exemplars, reduce_coarse

CELL = 4
"""Native pixels across a cell of the grid; 8 of the enlarged image."""
FINE_PREFIX = "fine_"
"""Of the names in an encoding."""

Encoding = dict[str, Array]
Features = list[Array]
"""The coarse grid ``(n, C, h, w)`` and the fine one ``(n, F, 2h, 2w)`` of n windows."""


class Channels(NamedTuple):
    """Channels of the feature layers in the two grids."""

    coarse: Sequence[int]
    fine: Sequence[int]


class Outline(NamedTuple):
    """What of a crop is defect, and what is background, cell by cell."""

    coarse: Array
    """Share of each cell that is defect ``(h, w)``, 0..1."""
    fine: Array
    """The same ``(2h, 2w)``."""
    clear: Array
    """Which cells are background ``(h, w)``."""

    @classmethod
    def of(cls, mask: Array, ignored: Array | None = None) -> "Outline":
        """Read it off a mask ``(4h, 4w)``, 0..1, and the pixels that count for nothing; ``None`` if all count."""
        share = cell_means(mask, CELL)
        clear = clear_background(share, None if ignored is None else cell_means(ignored, CELL))
        return cls(share, cell_means(mask, CELL // 2), clear)


class Reduced(NamedTuple):
    """What stays of a crop, whatever other crops there are."""

    coarse: CoarseImage
    fine: FineImage


def reduce_crop(features: Features, outline: Outline) -> Reduced:
    """Reduce the features of one crop."""
    grid, finer = (layer[0, ...] for layer in features)
    share, fine_share, clear = (as_given(to_numpy(plane), grid) for plane in outline)
    with full_precision(grid):
        return Reduced(reduce_coarse(grid, share, clear), reduce_fine(finer, fine_share, clear))


def merge(
    crops: Sequence[Reduced], background: Sequence[Array], labels: Sequence[str], channels: Channels
) -> dict[str, Encoding]:
    """Merge what stays of the crops of a support set, with background cells of each, to the encoding of each class."""
    with full_precision(background[0]):
        coarse = encode_coarse([crop.coarse for crop in crops], background, labels, channels.coarse)
        fine = encode_fine([crop.fine for crop in crops], labels, channels.fine)
    return {
        name: relations._asdict() | {f"{FINE_PREFIX}{key}": value for key, value in fine[name]._asdict().items()}
        for name, relations in coarse.items()
    }


def describe(
    features: Iterable[Features],
    masks: Sequence[Array],
    labels: Sequence[str],
    channels: Channels,
    ignored: Sequence[Array] | None = None,
) -> dict[str, Encoding]:
    """Describe each class by closed forms; crops without defect add to the background only.

    Args:
        features: Of the support crops, of any sizes.
        masks: Per crop the share of each pixel that is defect ``(h, w)``, 0..1.
        labels: Their classes.
        channels: Of the layers in the grids.
        ignored: Per crop which pixels count for nothing ``(h, w)``; ``None`` if all do.

    Raises:
        ValueError: If no crop shows a defect.
    """
    outlines = [Outline.of(*planes) for planes in zip(masks, ignored or [None] * len(masks), strict=True)]
    crops, background = [], []
    # one pass: the features of a crop are extracted when its turn comes, and not kept
    for crop, outline, cells in zip(features, outlines, draw_exemplars([o.clear for o in outlines]), strict=True):
        crops.append(reduce_crop(crop, outline))
        background.append(exemplars(crop[0][0, ...], crops[-1].coarse, cells))
    return merge(crops, background, labels, channels)


def describe_episodes(
    features: Sequence[Features], masks: Sequence[Array], episodes: Sequence[Sequence[int]], channels: Channels
) -> Iterator[Encoding]:
    """Describe the one class of each episode as :func:`describe` does; a crop that supports several is reduced once.

    Args:
        features: Of all support crops.
        masks: Their masks ``(h, w)``, 0..1.
        episodes: Which crops support each episode.
        channels: Of the layers in the grids.
    """
    outlines = {i: Outline.of(masks[i]) for i in sorted(set(chain(*episodes)))}
    crops = {i: reduce_crop(features[i], outline) for i, outline in outlines.items()}
    for members in episodes:
        chosen = draw_exemplars([outlines[i].clear for i in members])
        grids = (features[i][0][0, ...] for i in members)
        reduced = [crops[i] for i in members]
        background = [exemplars(*given) for given in zip(grids, (crop.coarse for crop in reduced), chosen, strict=True)]
        yield merge(reduced, background, [DEFECT] * len(members), channels)[DEFECT]
