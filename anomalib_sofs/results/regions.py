"""Found regions as plain data."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label, regionprops


def describe_regions(
    mask: NDArray[np.bool_],
    score: NDArray[np.floating],
    defect_class: str,
) -> list[dict[str, Any]]:
    """List the connected regions of a mask (8-connected), largest first.

    Args:
        mask: ``(H, W)``.
        score: Probability (FSS) or normalised distance (FAD) ``(H, W)`` in [0, 1].
        defect_class: Name of the class.

    Returns:
        Per region: ``class``; ``box`` as ``[x, y, width, height]`` in pixels; ``area_pixels`` and ``area_percent``;
        ``mean_probability`` and ``peak_probability``.
    """
    regions = sorted(regionprops(label(mask, connectivity=2), intensity_image=score), key=lambda region: -region.area)
    return [
        {
            "class": defect_class,
            "box": [
                int(region.bbox[1]),
                int(region.bbox[0]),
                int(region.bbox[3] - region.bbox[1]),
                int(region.bbox[2] - region.bbox[0]),
            ],
            "area_pixels": int(region.area),
            "area_percent": round(100 * float(region.area) / mask.size, 4),
            "mean_probability": round(float(region.intensity_mean), 4),
            "peak_probability": round(float(region.intensity_max), 4),
        }
        for region in regions
    ]
