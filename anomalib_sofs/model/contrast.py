"""Contrast: what good parts show, too, is no defect, however much it looks like one.

A head compares a query with what was marked, and with the rest of the marked images. Good images, where there are some,
tell more: whether any good part looks like that, too. The two answers are log-odds of a kind, and are added.
"""

from anomalib_sofs.arrays import Array

WEIGHT, IMAGE_WEIGHT = 1.0, 0.25
"""Of a logit, for each unit in which a pixel, and its image as a whole, are beyond what is normal, see
``AnomalyDetector.deviation``."""
BIAS = 1.0
"""Logit that is added everywhere: the rim of a defect is not beyond what is normal yet."""


def contrasted(logits: Array, deviation: tuple[Array, Array]) -> Array:
    """Return logits ``(B, K, H, W)`` that also say how far the pixels and the image are from normal.

    Args:
        logits: Of the head.
        deviation: Maps ``(B, 1, H, W)`` and scores ``(B,)`` of ``AnomalyDetector.deviation``.
    """
    pixels, images = deviation
    return logits + WEIGHT * pixels + (IMAGE_WEIGHT * images + BIAS)[:, None, None, None]
