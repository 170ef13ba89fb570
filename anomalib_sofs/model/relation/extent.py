"""Extent: a find ends where the logit has fallen to half of its peak.

Logits fall off smoothly from the middle of a find, and the surer it is, the wider the rim that lies above 0. What is
much less sure than the surest find of its image is a false one more often than not: a part has one light, one texture
and, as a rule, one kind of defect.
"""

from array_api_compat import array_namespace

from anomalib_sofs.arrays import Array

SHARE = 0.5
"""Of the peak at which a find ends: its width at half maximum."""
FREE = 1.0
"""Peak up to which nothing is lowered; beyond, only what it exceeds this by counts."""


def cut_at_half_peak(logits: Array) -> Array:
    """Lower the map of every image and class ``(B, K, H, W)`` by half of its peak; what was above 0 at its peak stays.

    Images keep the order of their peaks.
    """
    peak = array_namespace(logits).max(logits, axis=(2, 3), keepdims=True)
    return logits - SHARE * (peak - FREE).clip(0, None)
