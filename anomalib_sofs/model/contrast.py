"""Contrast: what good parts show, too, is no defect, however much it looks like one.

A head compares a query with what was marked, and with the rest of the marked images. Good images, where there are some,
tell more: whether any good part looks like that, too. The two answers are log-odds of a kind, and are added.
"""

from anomalib_sofs.arrays import Array

WEIGHT = 1.0
"""Of a logit, for each unit in which a pixel is beyond what is normal, see ``AnomalyDetector.deviation``."""


def contrasted(logits: Array, deviation: Array) -> Array:
    """Return logits ``(B, K, H, W)`` that also say how far each pixel is from normal ``(B, 1, H, W)``."""
    return logits + WEIGHT * deviation
