"""Rejected regions: what resembles one of them more than the marked defect has to be found with more certainty.

As background pixels they would weigh nothing: fifty among sixty thousand. So each of them sets a level that a find has
to exceed, a function of its mean features: next to nothing at the marked defect, and at the rejected region what the
head found there before it knew better. What lies halfway between the two has to exceed about half of that, and what
looks like the region itself something more than it.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from array_api_compat import array_namespace

from anomalib_sofs.arrays import Array, as_given, cell_means, to_numpy
from anomalib_sofs.results.labelling import label

from .discriminant import clear_background, weighted_mean

Encoding = dict[str, Array]

KEY = "rejected"
"""Name in an encoding of the slopes of the levels ``(2, n, C)``, see :func:`level_slopes`."""
LINES = ((-1.0, 0.0), (-5.0, 1.0))
"""Levels at the marked defect and above the peak at the rejected region; the second line is the higher one from four
fifths of the way on."""


class Rejected(NamedTuple):
    """A rejected region of a crop."""

    features: Array
    """Mean features less those of the background, scaled ``(C,)``."""
    peaks: Array
    """Largest logit that each class has in it ``(K,)``."""


def rejected_regions(grid: Array, logits: Array, mask: Array, scale: Array) -> Iterator[Rejected]:
    """Describe the connected rejected regions of a crop.

    Args:
        grid: Features ``(C, h, w)``.
        logits: What is found in it without rejections ``(K, H, W)``.
        mask: The share of each pixel that was rejected ``(H, W)``.
        scale: One over the standard deviation of the background ``(C,)``.
    """
    xp = array_namespace(grid)
    cell = mask.shape[0] // grid.shape[1]
    cells = xp.reshape(grid, (grid.shape[0], -1)).T
    shares = cell_means(mask, cell)
    background = xp.mean(cells[xp.reshape(clear_background(shares), (-1,))], axis=0)
    numbers = label(to_numpy(mask) > 0)
    for number in range(1, int(numbers.max()) + 1):
        region = as_given((numbers == number).astype(np.float32), grid)
        share = xp.reshape(cell_means(region, cell), (-1,))
        found = xp.where(region > 0, logits, xp.full_like(logits, -xp.inf))
        yield Rejected((weighted_mean(cells, share) - background) * scale, xp.max(found, axis=(1, 2)))


def level_slopes(regions: list[Rejected], contrasts: Array) -> Array:
    """Return the slopes of the levels that regions set for each class ``(K, 2, n, C)``.

    A level is the highest of straight lines through feature space, one for each region and each of :data:`LINES`:
    ``slope . (x - contrast)`` above what it is at the defect.

    Args:
        regions: The rejected regions, n of them; the peak of a class that did not find one counts as 0.
        contrasts: Features of the marked defects less those of their background, scaled ``(K, C)``.
    """
    xp = array_namespace(contrasts)
    apart = xp.stack([region.features for region in regions])[None, ...] - contrasts[:, None, :]
    peaks = xp.stack([region.peaks for region in regions], axis=1).clip(0, None)
    along = apart / xp.sum(apart * apart, axis=2, keepdims=True).clip(1e-6, None)
    return xp.stack([along * (peaks + more - start)[..., None] for start, more in LINES], axis=1)
