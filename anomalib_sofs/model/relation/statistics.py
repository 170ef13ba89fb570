"""The support half of the relations: what separates the marked defect from its background, in closed form."""

from collections.abc import Sequence
from typing import NamedTuple

from array_api_compat import array_namespace, device

from anomalib_sofs.arrays import Array, by_layer, drawn, to_numpy, unit

from .discriminant import (
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


class CoarseImage(NamedTuple):
    """What stays of one support image: statistics of its background, and its defect cells.

    All cells are centred on the mean of its own background. Its features are not kept, so that memory stays bounded
    however many images there are.
    """

    mean: Array  # (C,)
    second: Array  # (C, C) second moment of the background
    local_mean: Array  # (C,) of the background less its surroundings
    local_second: Array  # (C, C)
    area: Array  # () share of the image that is defect
    share: Array  # (d,) mask share of the defect cells
    defect: Array  # (d, C)
    local_defect: Array  # (d, C)


def reduce_coarse(grid: Array, share: Array, clear: Array) -> CoarseImage:
    """Reduce one support image.

    Args:
        grid: ``(C, h, w)``, see ``patch_grid``.
        share: Share of each cell that is defect ``(h, w)``, 0..1; all 0 for a normal image, which adds to the
            background and never dilutes the contrast.
        clear: Which cells are its background ``(h, w)``, see :func:`.discriminant.clear_background`.
    """
    xp = array_namespace(grid)
    share, bg = (xp.reshape(plane, (-1,)) for plane in (share, clear))
    (hit,) = xp.nonzero(share > 0)
    x, local = (xp.reshape(planes, (grid.shape[0], -1)) for planes in (grid, grid - surround(grid)))
    mean = mean_cell(x, bg)
    x = x - mean[:, None]
    return CoarseImage(
        mean, second_moment(x, bg), mean_cell(local, bg), second_moment(local, bg),
        xp.mean(share), share[hit], _rows(x, hit), _rows(local, hit),
    )  # fmt: skip


def _rows(cells: Array, chosen: Array) -> Array:
    """Return some of the cells ``(C, n)`` as rows ``(m, C)``."""
    return array_namespace(cells).take(cells, chosen, axis=1).T


def exemplars(grid: Array, image: CoarseImage, chosen: Sequence[int]) -> Array:
    """Return some cells ``(e, C)`` of the image's grid ``(C, h, w)``, by their numbers, centred as all of them are."""
    xp = array_namespace(grid)
    numbers = xp.asarray(chosen, dtype=xp.int64, device=device(grid))
    return _rows(xp.reshape(grid, (grid.shape[0], -1)), numbers) - image.mean


def draw_exemplars(clear: Sequence[Array]) -> list[list[int]]:
    """Draw ``BACKGROUND_CELLS`` of the background cells of all images, planes ``(h, w)``: their numbers, by image."""
    cells = [to_numpy(plane).reshape(-1).nonzero()[0] for plane in clear]
    rows = drawn(sum(map(len, cells)), BACKGROUND_CELLS)
    chosen, start = [], 0
    for numbers in cells:
        end = start + len(numbers)
        chosen.append([int(numbers[row - start]) for row in rows if start <= row < end])
        start = end
    return chosen


def encode_coarse(
    images: Sequence[CoarseImage], background: Sequence[Array], labels: Sequence[str], channels: Sequence[int]
) -> dict[str, SupportRelations]:
    """Merge support images to what a query is compared with.

    Covariance and contrast are taken within each image, against its own background, and averaged, each image counting
    the same: what differs between support images (light, position) must not look like a defect. The background is that
    of all images, whatever their class.

    Args:
        images: The images.
        background: Per image some of its background cells ``(e, C)``, see :func:`exemplars`.
        labels: Per image its defect class; of no account for normal images.
        channels: Channels of the three layers in the grid, ``(24, 40, 112)``.

    Returns:
        The encoding of each class, by name.

    Raises:
        ValueError: If no support image shows a defect.
    """
    marked: dict[str, list[CoarseImage]] = {}
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
    nearest = _unit_by_layer(xp.concat(list(background), axis=0) * scale, channels)
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
            scale, mean, precision, nearest, contrast, directions, xp.sqrt(spread.clip(1e-8, None)),
            _unit_by_layer(xp.take(core, chosen, axis=0), channels), xp.log(area / (1 - area)),
        )  # fmt: skip
    return encoded
