"""Least area: regions of fewer pixels than that are no defects."""

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from anomalib_sofs.arrays import Array, as_given, to_numpy
from anomalib_sofs.results.labelling import label


def drop_small(maps: Array, area: int, level: float = 0.5) -> Array:
    """Lower every region above a level that has fewer than ``area`` pixels to that level.

    Regions are 8-connected pixels of one map, those that another class takes included.

    Args:
        maps: ``(B, K, H, W)``.
        area: Least number of pixels.
        level: Where regions begin.
    """
    if area <= 1:
        return maps
    above = to_numpy(maps) > level
    small = np.stack([part & ~_large(part, area) for part in above.reshape(-1, *above.shape[2:])])
    lowered = as_given(small.reshape(above.shape), maps)
    return array_namespace(maps).where(lowered, maps.clip(None, level), maps)


def highest_level(maps: Array, area: int) -> Array:
    """Return the highest level at which maps ``(B, K, H, W)`` have a region of ``area`` pixels ``(B, K)``.

    Above it :func:`drop_small` leaves nothing. It is the maximum of the area opening of a map (Vincent 1993), found by
    bisection: the opening itself takes a minute on four megapixels.
    """
    if area <= 1:
        return array_namespace(maps).max(maps, axis=(2, 3))
    values = to_numpy(maps)
    levels = [_highest(part, area) for part in values.reshape(-1, *values.shape[2:])]
    return as_given(np.asarray(levels, dtype=values.dtype).reshape(values.shape[:2]), maps)


def _highest(values: NDArray[np.floating], area: int) -> float:
    levels = np.unique(values)
    low, high = 0, len(levels)  # at the lowest level the whole image is one region, above the highest there is none
    while high - low > 1:
        middle = (low + high) // 2
        if _large(values >= levels[middle], area).any():
            low = middle
        else:
            high = middle
    return float(levels[low])


def _large(above: NDArray[np.bool_], area: int) -> NDArray[np.bool_]:
    """Keep the regions ``(H, W)`` of at least ``area`` pixels."""
    regions = label(above)
    large = np.bincount(regions.ravel()) >= area
    large[0] = False
    kept: NDArray[np.bool_] = large[regions]
    return kept
