"""One score per image out of a probability map (few-shot segmentation)."""

from torch import Tensor

FLOOR = 1e-5
"""Probability of a plain background, and the least that is told apart."""


def image_score(probability: Tensor) -> Tensor:
    """Score images by how far their most probable pixel stands out from their own background.

    The odds of the maximum, divided by how many times the background's odds (their harmonic mean over the image) exceed
    those of :data:`FLOOR`. On a plain background this is the maximum; where light or texture unlike the support's raise
    the whole map, a peak counts for less. The calm part of an image decides its harmonic mean: a defect that covers
    half of the image costs no more than half of the odds. Neither the image's size nor the defect's enters, as they do
    in a mean over the highest pixels. ``python -m anomalib_sofs.benchmark image_score`` compares it with other scores.

    Args:
        probability: Maps ``(B, H, W)``.

    Returns:
        Scores ``(B,)`` in [0, 1], never above the map's maximum (or :data:`FLOOR`, if that is larger).
    """
    p = probability.flatten(1).clamp(FLOOR, 1 - FLOOR)
    against = ((1 - p) / p).mean(dim=1)  # 1 / harmonic mean of the odds
    peak = p.amax(dim=1)
    odds = peak / (1 - peak) * against * (FLOOR / (1 - FLOOR))
    return odds / (1 + odds)
