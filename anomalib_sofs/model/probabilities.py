"""From logits to probabilities: what becomes 0.5, where defects count, and from which size on."""

from array_api_compat import array_namespace

from anomalib_sofs.arrays import Array, sigmoid

from .least_area import drop_small, highest_level

LIMIT = "limit"
"""Name in an encoding of the highest logit of good images, where there were some."""
ROUNDING = 2e-5
"""Of a logit, by which a limit has to be exceeded: the good image that told it does not exceed itself, whatever engine
and memory layout its logits are computed in."""


def only_inside(logits: Array, inside: Array | None) -> Array:
    """Make sure that what is not ``inside (B or 1, 1, H, W)`` is no defect; ``None`` if all pixels count."""
    if inside is None:
        return logits
    xp = array_namespace(logits)
    return xp.where(inside, logits, xp.full_like(logits, -xp.inf))


def probabilities(logits: Array, threshold: float, limits: Array | None, least_area: int) -> Array:
    """Return the probability of each class ``(B, K, H, W)``.

    An image shows a class only where a region exceeds the stricter of the threshold and the limit that good images have
    told. In such an image the threshold alone counts: limits tell whether there is a defect, not where it ends.

    Args:
        logits: ``(B, K, H, W)``.
        threshold: The logit that becomes 0.5.
        limits: The highest logit of good images, of each class ``(K,)``; ``None`` where none were at hand.
        least_area: Pixels of the smallest region that counts.
    """
    if limits is None:
        return drop_small(sigmoid(logits - threshold), least_area)
    xp = array_namespace(logits)
    strict = (limits + ROUNDING).clip(threshold, None)
    shown = highest_level(logits, least_area) > strict
    counts = xp.where(shown, xp.full_like(strict, threshold), strict)
    return drop_small(sigmoid(logits - counts[..., None, None]), least_area)
