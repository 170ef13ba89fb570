"""Found regions: connected pixels of one class."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .labelling import boxes, label


class Region(NamedTuple):
    """A connected region (8-connected) of one class."""

    defect_class: str
    left: int
    top: int
    mask: NDArray[np.bool_]
    """Its pixels within its bounding box ``(h, w)``."""
    mean: float
    """Mean of the map over its pixels, in [0, 1]."""
    peak: float
    """Largest value of the map among its pixels, in [0, 1]."""

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(self.mask.sum())

    @property
    def box(self) -> list[int]:
        """Bounding box ``[x, y, width, height]`` in pixels."""
        height, width = self.mask.shape
        return [self.left, self.top, width, height]


def find_regions(classes: NDArray[np.integer], score: NDArray[np.floating], names: Sequence[str]) -> list[Region]:
    """List the regions of a class map, class by class, the largest first.

    Args:
        classes: Class numbers ``(H, W)``, 0 where nothing was found.
        score: Probability (FSS) or normalised distance (FAD) ``(H, W)`` in [0, 1].
        names: Class names, number 1 first.
    """
    return [region for i, name in enumerate(names, start=1) for region in _regions(classes == i, score, name)]


def _regions(mask: NDArray[np.bool_], score: NDArray[np.floating], defect_class: str) -> list[Region]:
    numbers = label(mask)
    found = []
    for number, (rows, columns) in enumerate(boxes(numbers), start=1):
        inside = numbers[rows, columns] == number
        values = score[rows, columns][inside]
        mean, peak = (round(float(value), 4) for value in (values.mean(dtype=np.float64), values.max()))
        found.append(Region(defect_class, columns.start, rows.start, inside, mean, peak))
    return sorted(found, key=lambda region: (-region.area, region.top, region.left))


def describe_region(region: Region, size: tuple[int, int]) -> dict[str, Any]:
    """Describe a region as plain data.

    Args:
        region: The region.
        size: Height and width of its image.

    Returns:
        ``class``; ``box`` as ``[x, y, width, height]`` in pixels; ``area_pixels`` and ``area_percent``;
        ``mean_probability`` and ``peak_probability``.
    """
    return {
        "class": region.defect_class,
        "box": region.box,
        "area_pixels": region.area,
        "area_percent": round(100 * region.area / (size[0] * size[1]), 4),
        "mean_probability": region.mean,
        "peak_probability": region.peak,
    }


def describe_regions(mask: NDArray[np.bool_], score: NDArray[np.floating], defect_class: str) -> list[dict[str, Any]]:
    """Describe the regions of one class, largest first; see :func:`describe_region`."""
    return [describe_region(region, mask.shape) for region in _regions(mask, score, defect_class)]
