"""Evidence: a defect is called on about as much of it as a marked region has, not on one sure pixel.

A speck that looks like the defect is found in many a good part; what is smaller or less sure than the marked one as a
whole does not make the part a bad one.
"""

import numpy as np
from array_api_compat import array_namespace, device

from anomalib_sofs.arrays import Array, as_given, largest_pixels, to_numpy
from anomalib_sofs.results.labelling import label

PIXEL_RATIO = 2.0
"""As many of the surest pixels as a marked region has, times this, must be defect on average: what is found is larger
than what is marked, as a rule."""
MAX_PIXELS = 200
"""Pixels that count at most: beyond, a smaller defect of the same class would be passed over."""
MIN_EVIDENCE = -0.25
"""Mean logit of these pixels from which there is a defect, where it stands out as the marked one does."""
NO_PIXEL = -20.0
"""Logit of a pixel that is not there."""


def region_pixels(mask: Array) -> Array:
    """Return the median size in pixels of the connected regions of a mask ``(H, W)``, a scalar.

    Regions, as several defects may be marked in one image, and a single one is to be found in the next.
    """
    sizes = np.sort(np.bincount(label(to_numpy(mask) > 0).ravel())[1:])
    return as_given(np.asarray(sizes[(len(sizes) - 1) // 2], dtype=np.float32), mask)


def shortfall(peak: Array, evidence: Array, marked: Array) -> Array:
    """Return what lowers the map of every image and class that shows too little evidence to 0 and less ``(B, K)``.

    It is 0 where there is enough. Images that are lowered are ordered by their evidence.

    Args:
        peak: Largest logit ``(B, K)``.
        evidence: Logits that are weighed ``(B, K, H, W)``.
        marked: Pixels of a marked region of each class ``(K,)``, see :func:`region_pixels`.
    """
    xp = array_namespace(peak)
    highest = largest_pixels(evidence, MAX_PIXELS, NO_PIXEL)  # (B, K, MAX_PIXELS)
    most = (PIXEL_RATIO * marked).clip(1, MAX_PIXELS)
    counted = xp.astype(xp.arange(MAX_PIXELS, device=device(peak)) < most[:, None], highest.dtype)
    # shares, not a division of the sum: OpenVINO joins that to the sum, and reads the classes as images from K on
    share = counted / xp.sum(counted, axis=1, keepdims=True)
    spare = xp.sum(highest * share, axis=2) - MIN_EVIDENCE
    return xp.where(spare > 0, xp.zeros_like(spare), peak.clip(0, None) - spare)
