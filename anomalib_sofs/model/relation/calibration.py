"""Calibration: what the head finds in the marked image itself tells where to cut for this class of defect.

The support is the one image whose truth is known. Where the head marks more of it than the user did, it will do so in a
query, too. It always does better there than elsewhere, so only part of what it is off by is made up for.
"""

from collections.abc import Sequence

from array_api_compat import array_namespace

from anomalib_sofs.arrays import Array, largest

from .discriminant import mean_of

USUAL_LEVEL = 3.0
"""Level of a class that needs no shift: a head is surer of the support, from which it took its directions."""
PART = 0.5
"""Of the difference to the usual level that is made up for; chosen with both real test sets in sight, see the docs."""
LEVELS = (-5.0, 6.0)
"""Least and largest level that counts; beyond them a probability tells nothing more."""


def marked_level(logits: Array, mask: Array) -> Array:
    """Return the logit above which as many pixels lie as are marked, a scalar.

    Args:
        logits: Of a support image, with itself as support ``(H, W)``.
        mask: Its mask ``(H, W)``, some of it non-zero.
    """
    xp = array_namespace(logits)
    marked = int(xp.count_nonzero(mask > 0))
    return largest(xp.reshape(logits, (-1,)), marked, LEVELS[0])[marked - 1].clip(*LEVELS)


def shift(levels: Sequence[Array]) -> Array:
    """Return what the logits of a class are raised by, from the levels of its marked crops, a scalar."""
    return PART * (USUAL_LEVEL - mean_of(levels))
