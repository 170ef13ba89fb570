"""The support half of the relations: what separates the marked defect from its background, in closed form."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from array_api_compat import array_namespace, device

from anomalib_sofs.arrays import Array, as_given, by_layer, drawn, to_numpy, unit

from .discriminant import (
    clear_background,
    directions_by_layer,
    discriminant,
    mean_cell,
    mean_of,
    second_moment,
    shrunk,
    variance,
    weighted_mean,
)
from .surround import surround

DEFECT_CELLS, BACKGROUND_CELLS = 32, 64
"""Exemplars kept for the nearest-neighbour maps."""
AREAS = (1e-4, 0.5)
"""Least and largest share of a support image that its defect counts as."""


class SupportRelations(NamedTuple):
    """Encoding of one defect class: everything the query path needs, C channels (176 for the default backbone).

    Classes of one support set share their background, and with it everything that is costly on the query's side.
    """

    scale: Array  # (C,) shared: 1 / standard deviation of the background cells
    mean: Array  # (C,) shared: mean of the background cells
    precision: Array  # (C, C) shared: inverse of the shrunk background covariance
    background: Array  # (64, C) shared: background cells, the part of each layer of unit length
    contrast: Array  # (C,) defect minus background, scaled
    directions: Array  # (6, C) discriminants, see DIRECTIONS; the defect lies at 1, the background at 0
    sigma: Array  # (6,) standard deviation of the background along them
    defect: Array  # (32, C) defect cells, the part of each layer of unit length
    odds: Array  # () log odds of the share of the support that is defect


def _unit_by_layer(x: Array, channels: Sequence[int]) -> Array:
    return array_namespace(x).concat([unit(layer, 1) for layer in by_layer(x, channels)], axis=1)


class _Image(NamedTuple):
    """What stays of one support image: statistics of its background, and its defect cells.

    All cells are centred on the mean of its own background. Its features are not kept, so that memory stays bounded
    however many images there are.
    """

    mean: Array  # (C,)
    second: Array  # (C, C) second moment of the background
    local_mean: Array  # (C,) of the background less its surroundings
    local_second: Array  # (C, C)
    exemplars: Array  # (e, C) chosen background cells
    area: Array  # () share of the image that is defect
    share: Array  # (d,) mask share of the defect cells
    defect: Array  # (d, C)
    local_defect: Array  # (d, C)


def _reduce(grid: Array, share: Array, bg: Array, exemplars: Sequence[int]) -> _Image:
    xp = array_namespace(grid)
    (clear,), (hit,) = xp.nonzero(bg), xp.nonzero(share > 0)
    chosen = xp.take(clear, xp.asarray(exemplars, dtype=xp.int64, device=device(grid)), axis=0)
    x, local = (xp.reshape(planes, (grid.shape[0], -1)) for planes in (grid, grid - surround(grid)))
    mean = mean_cell(x, bg)
    x = x - mean[:, None]
    return _Image(
        mean, second_moment(x, bg), mean_cell(local, bg), second_moment(local, bg),
        _rows(x, chosen), xp.mean(share), share[hit], _rows(x, hit), _rows(local, hit),
    )  # fmt: skip


def _rows(cells: Array, chosen: Array) -> Array:
    """Return some of the cells ``(C, n)`` as rows ``(m, C)``."""
    return array_namespace(cells).take(cells, chosen, axis=1).T


def _reduced(grids: Iterable[Array], masks: Sequence[Array], ignored: Sequence[Array]) -> list[_Image]:
    """Reduce the images one by one; the exemplars are drawn from the background cells of all of them."""
    backgrounds = [clear_background(*planes) for planes in zip(masks, ignored, strict=True)]
    counts = [int(array_namespace(background).count_nonzero(background)) for background in backgrounds]
    chosen = drawn(sum(counts), BACKGROUND_CELLS)
    images, start = [], 0
    for grid, mask, background, count in zip(grids, masks, backgrounds, counts, strict=True):
        share, clear = (as_given(to_numpy(plane).reshape(-1), grid) for plane in (mask, background))
        images.append(_reduce(grid, share, clear, [row - start for row in chosen if start <= row < start + count]))
        start += count
    return images


def encode_support(
    grids: Iterable[Array],
    masks: Sequence[Array],
    labels: Sequence[str],
    channels: Sequence[int],
    ignored: Sequence[Array] | None = None,
) -> dict[str, SupportRelations]:
    """Reduce annotated images to what a query is compared with.

    Covariance and contrast are taken within each image, against its own background, and averaged, each image counting
    the same: what differs between support images (light, position) must not look like a defect. The background is that
    of all images, whatever their class.

    Args:
        grids: Per support image ``(C, h, w)``, see ``patch_grid``; sizes may differ.
        masks: Per support image the mask share of each cell ``(h, w)``, 0..1; all 0 for a normal image, which adds to
            the background and never dilutes the contrast.
        labels: Per support image its defect class; of no account for normal images.
        channels: Channels of the three layers in the grid, ``(24, 40, 112)``.
        ignored: Per support image the share of each cell that counts for nothing ``(h, w)``; ``None`` for none.

    Returns:
        The encoding of each class, by name.

    Raises:
        ValueError: If no support image shows a defect.
    """
    if ignored is None:
        ignored = [array_namespace(mask).zeros_like(mask) for mask in masks]
    images = _reduced(grids, masks, ignored)
    marked: dict[str, list[_Image]] = {}
    for image, label in zip(images, labels, strict=True):
        if image.share.shape[0]:
            marked.setdefault(label, []).append(image)
    if not marked:
        msg = "no support mask marks a defect; few-shot anomaly detection needs none"
        raise ValueError(msg)
    xp = array_namespace(images[0].mean)
    scale = 1 / (xp.sqrt(mean_of(xp.linalg.diagonal(i.second) for i in images)) + 1e-3)
    both = scale[:, None] * scale
    covariance = mean_of(i.second for i in images) * both
    second = mean_of(i.local_second for i in images) * both
    local_mean = mean_of(i.local_mean for i in images) * scale
    local_covariance = second - local_mean[:, None] * local_mean

    precision = xp.linalg.inv(shrunk(covariance, 1.0))
    background = _unit_by_layer(xp.concat([i.exemplars for i in images], axis=0) * scale, channels)
    mean = mean_of(i.mean for i in images)

    encoded = {}
    for label, rows in sorted(marked.items()):
        contrast = mean_of(weighted_mean(i.defect, i.share) for i in rows) * scale
        local_contrast = mean_of(weighted_mean(i.local_defect, i.share) for i in rows) * scale - local_mean
        directions = xp.stack(
            [
                *directions_by_layer(covariance, contrast, channels),
                discriminant(covariance, contrast, 1.0),
                discriminant(covariance, contrast, 10.0),
                discriminant(local_covariance, local_contrast, 1.0),
            ]
        )
        spread = xp.concat([variance(directions[:-1, :], covariance), variance(directions[-1:, :], second)], axis=0)
        core = xp.concat([i.defect[i.share >= min(0.5, 0.7 * float(xp.max(i.share)))] for i in rows], axis=0) * scale
        chosen = xp.asarray(drawn(core.shape[0], DEFECT_CELLS), dtype=xp.int64, device=device(core))
        area = mean_of(i.area for i in rows).clip(*AREAS)
        encoded[label] = SupportRelations(
            scale, mean, precision, background, contrast, directions, xp.sqrt(spread.clip(1e-8, None)),
            _unit_by_layer(xp.take(core, chosen, axis=0), channels), xp.log(area / (1 - area)),
        )  # fmt: skip
    return encoded
