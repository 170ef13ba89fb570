"""Parts of the normal support that were left out of its description: what is found in them is normal."""

from collections.abc import Iterator, Sequence

from torch import Tensor

FOLDS = 8
"""Most times that the support is described anew, however many images there are."""
QUARTERS = [(rows, columns) for rows in (0, 1) for columns in (0, 1)]


def held_out(
    features: Sequence[list[Tensor]], sources: Sequence[int]
) -> Iterator[tuple[list[list[Tensor]], list[Tensor]]]:
    """Yield some of the features and, beside them, a crop or part of one that is not among them.

    Args:
        features: Per crop one ``(1, D_l, h_l, w_l)`` per layer.
        sources: Number of the image that each crop was cut from.

    Yields:
        With several images, all but a fold of them, and each crop of that fold; with a single one, three quarters of
        each crop, and the fourth. A crop that is too small for quarters (one cell across in a layer) is compared with
        itself.
    """
    images = sorted(set(sources))
    if len(images) > 1:
        for fold in range(min(FOLDS, len(images))):
            members = set(images[fold::FOLDS])
            rest = [crop for crop, source in zip(features, sources, strict=True) if source not in members]
            for crop, source in zip(features, sources, strict=True):
                if source in members:
                    yield rest, crop
        return
    for number, crop in enumerate(features):
        if min(min(layer.shape[-2:]) for layer in crop) < 2:  # noqa: PLR2004 - a quarter needs a cell
            yield list(features), crop
            continue
        others = [other for i, other in enumerate(features) if i != number]
        quarters = [_quarter(crop, *place) for place in QUARTERS]
        for i, quarter in enumerate(quarters):
            yield others + quarters[:i] + quarters[i + 1 :], quarter


def _quarter(crop: list[Tensor], row: int, column: int) -> list[Tensor]:
    """Cut a quarter of a crop, at the same place in every layer."""

    def half(length: int, which: int) -> slice:
        return slice(0, length // 2) if which == 0 else slice(length // 2, length)

    return [layer[..., half(layer.shape[-2], row), half(layer.shape[-1], column)] for layer in crop]
