"""Least area: regions of fewer pixels than that are no defects."""

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.measure import label
from torch import Tensor


def drop_small(maps: Tensor, area: int, level: float = 0.5) -> Tensor:
    """Lower every region above a level that has fewer than ``area`` pixels to that level.

    Regions are 8-connected pixels of one map, those that another class takes included.

    Args:
        maps: ``(B, K, H, W)``.
        area: Least number of pixels.
        level: Where regions begin.
    """
    if area <= 1:
        return maps
    above = (maps > level).flatten(0, 1).cpu().numpy()
    small = np.stack([part & ~_large(part, area) for part in above])
    return torch.where(torch.from_numpy(small).view_as(maps).to(maps.device), maps.clamp_max(level), maps)


def highest_level(maps: Tensor, area: int) -> Tensor:
    """Return the highest level at which maps ``(B, K, H, W)`` have a region of ``area`` pixels ``(B, K)``.

    Above it :func:`drop_small` leaves nothing. It is the maximum of the area opening of a map (Vincent 1993), found by
    bisection: the opening itself takes a minute on four megapixels.
    """
    if area <= 1:
        return maps.amax((2, 3))
    values = [_highest(part, area) for part in maps.flatten(0, 1).cpu().numpy()]
    return torch.tensor(values).to(maps).view(maps.shape[:2])


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
    regions = label(above, connectivity=2)
    large = np.bincount(regions.ravel()) >= area
    large[0] = False
    kept: NDArray[np.bool_] = large[regions]
    return kept
