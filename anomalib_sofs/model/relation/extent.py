"""Extent: a find ends where the logit has fallen to half of its peak.

Logits fall off smoothly from the middle of a find, and the surer it is, the wider the rim that lies above 0. What is
much less sure than the surest find of its image is a false one more often than not: a part has one light, one texture
and, as a rule, one kind of defect.
"""

from anomalib_sofs.arrays import Array

SHARE = 0.5
"""Of the peak at which a find ends: its width at half maximum."""
FREE = 1.0
"""Peak up to which nothing is lowered; beyond, only what it exceeds this by counts."""


def rim(peak: Array) -> Array:
    """Return what lowers a map of this peak so that a find ends at half of it; what was above 0 at its peak stays so.

    Images keep the order of their peaks.
    """
    return SHARE * (peak - FREE).clip(0, None)
