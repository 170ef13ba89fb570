"""The support half of the fine relations, on a grid of 2 native pixels from the two finest layers.

The same discriminants as on the grid of 4 pixels, of layers too fine to tell what a defect is.
"""

from collections.abc import Sequence
from typing import NamedTuple

from array_api_compat import array_namespace

from anomalib_sofs.arrays import Array

from .discriminant import (
    directions_by_layer,
    discriminant,
    mean_cell,
    mean_of,
    second_moment,
    variance,
    weighted_mean,
)

SHRINKAGE = 0.3, 5.0
"""Of the covariance behind ``both`` and ``both_stiff``."""
BOTH = 2
"""Row of the discriminant of both layers, after those of each."""


class FineRelations(NamedTuple):
    """Encoding of one defect class, C channels (40 for the default backbone)."""

    directions: Array  # (4, C) discriminants of features as they are; the defect lies 1 above the background
    sigma: Array  # () standard deviation of the background along ``both``


class FineImage(NamedTuple):
    """What stays of one support image."""

    second: Array  # (C, C) covariance of the background
    contrast: Array | None  # (C,) defect minus background; None for a normal image


def reduce_fine(grid: Array, share: Array, clear: Array) -> FineImage:
    """Reduce one support image.

    Args:
        grid: ``(C, 2h, 2w)``, see :func:`.fine_maps.fine_grid`.
        share: Share of each cell that is defect ``(2h, 2w)``, 0..1.
        clear: Which cells of the coarse grid are background ``(h, w)``.
    """
    xp = array_namespace(grid)
    clear = xp.reshape(xp.repeat(xp.repeat(clear, 2, axis=0), 2, axis=1), (-1,))
    x, share = xp.reshape(grid, (grid.shape[0], -1)), xp.reshape(share, (-1,))
    x = x - mean_cell(x, clear)[:, None]
    (hit,) = xp.nonzero(share > 0)
    contrast = weighted_mean(xp.take(x, hit, axis=1).T, share[hit]) if hit.shape[0] else None
    return FineImage(second_moment(x, clear), contrast)


def encode_fine(
    images: Sequence[FineImage], labels: Sequence[str], channels: Sequence[int]
) -> dict[str, FineRelations]:
    """Merge support images, each counting the same.

    Args:
        images: The images.
        labels: Their defect classes; of no account for normal images.
        channels: Channels of the two layers in the grid, ``(16, 24)``.

    Returns:
        The encoding of each class, by name.
    """
    covariance = mean_of(image.second for image in images)
    xp = array_namespace(covariance)
    scale = 1 / (xp.sqrt(xp.linalg.diagonal(covariance)) + 1e-3)
    covariance = covariance * scale[:, None] * scale
    contrasts: dict[str, list[Array]] = {}
    for image, label in zip(images, labels, strict=True):
        if image.contrast is not None:
            contrasts.setdefault(label, []).append(image.contrast)
    encoded = {}
    for label, rows in sorted(contrasts.items()):
        contrast = mean_of(rows) * scale
        single = directions_by_layer(covariance, contrast, channels)
        both = [discriminant(covariance, contrast, amount) for amount in SHRINKAGE]
        directions = xp.stack([*single, *both])
        sigma = xp.sqrt(variance(directions, covariance)[BOTH].clip(1e-8, None))
        encoded[label] = FineRelations(directions * scale, sigma)
    return encoded
