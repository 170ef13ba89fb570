"""The conformal quantile: the score that a share of further ones exceeds at most (Vovk et al. 2005)."""

import math
from fractions import Fraction

from array_api_compat import array_namespace

from .arrays import Array


def conformal_rank(count: int, rate: float) -> int:
    """Return which of ``count`` ascending scores, from 1 on, a share ``rate`` of further ones exceeds at most.

    It may be ``count + 1``: then no score is known to be large enough.
    """
    # decimal digits as the user wrote them: 20 * (1 - 0.05) must not become 19.000000000000004
    return math.ceil((count + 1) * (1 - Fraction(str(rate))))


def conformal_quantile(scores: Array, rate: float) -> Array:
    """Return the conformal quantile over the first dimension of scores ``(N, ...)``; the largest of too few."""
    count = scores.shape[0]
    ascending = array_namespace(scores).sort(scores, axis=0)
    return ascending[min(conformal_rank(count, rate), count) - 1, ...]
