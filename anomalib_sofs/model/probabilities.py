"""From logits to probabilities: what becomes 0.5, where defects count, and from which size on."""

from array_api_compat import array_namespace

from anomalib_sofs.arrays import Array, sigmoid

from .least_area import drop_small


def only_inside(logits: Array, inside: Array | None) -> Array:
    """Make sure that what is not ``inside (B or 1, 1, H, W)`` is no defect; ``None`` if all pixels count."""
    if inside is None:
        return logits
    xp = array_namespace(logits)
    return xp.where(inside, logits, xp.full_like(logits, -xp.inf))


def probabilities(logits: Array, limits: Array, least_area: int) -> Array:
    """Return the probability of each class ``(B, K, H, W)``.

    Args:
        logits: ``(B, K, H, W)``.
        limits: The logit of each class that becomes 0.5 ``(K,)``.
        least_area: Pixels of the smallest region that counts.
    """
    return drop_small(sigmoid(logits - limits[:, None, None]), least_area)
