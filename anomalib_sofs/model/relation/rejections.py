"""Rejected regions: what looks more like one of them than like the marked defect is no defect.

As background pixels they would weigh nothing: fifty among sixty thousand. So some of their cells are kept as exemplars,
and every cell of a query is compared with the nearest of them and with the nearest of the defect.

False alarms that look like none of them remain. How sure the head was of the rejected ones, before it knew better, is
how sure it is of further ones: an image has to show something that it is surer of than of a quarter of them.
"""

from collections.abc import Sequence

import numpy as np
from array_api_compat import array_namespace, device

from anomalib_sofs.arrays import Array, by_layer, cell_means, unit
from anomalib_sofs.conformal import conformal_quantile

from .discriminant import clear_background

Encoding = dict[str, Array]

KEY = "rejected"
"""Name in an encoding of the exemplars ``(e, C)``, layers of unit length; the classes of a support set share them."""
LEVEL = "rejected_level"
"""Name in an encoding of the logit ``()`` that something on an image has to exceed."""
EXCEEDING = 0.75
"""Share of further false alarms that exceed it; passing over more of them costs real defects, see the experiments."""
CELLS = 32
"""Exemplars of each image with rejected regions."""
LAYER_WEIGHTS = (0.0, 0.3, 0.7)
"""Of the cosines at strides 4, 8 and 16 of the enlarged image: what a region is shows on coarse cells."""
GAIN = 40.0
"""Logits per difference of the cosines."""
MARGIN = 0.1
"""By which the cosine to a rejected region has to be larger."""
MOST = 16.0
"""Logits that are taken off at most."""


def rejected_cells(grid: Array, mask: Array, scale: Array, channels: Sequence[int]) -> Array:
    """Choose exemplars of a rejected region.

    Args:
        grid: Features ``(C, h, w)`` of a crop that shows it.
        mask: The share of each pixel that was rejected ``(H, W)``.
        scale: One over the standard deviation of the background ``(C,)``.
        channels: Channels of the layers in the grid.

    Returns:
        ``(e, C)``, each layer of unit length.
    """
    xp = array_namespace(grid)
    shares = cell_means(mask, mask.shape[0] // grid.shape[1])
    cells = xp.reshape(grid, (grid.shape[0], -1)).T
    mean = xp.mean(cells[xp.reshape(clear_background(shares), (-1,))], axis=0)
    share = xp.reshape(shares, (-1,))
    core = (cells[share >= min(0.5, 0.7 * float(xp.max(share)))] - mean) * scale
    steps = np.linspace(0, core.shape[0] - 1, min(CELLS, core.shape[0])).round().astype(int).tolist()
    chosen = xp.take(core, xp.asarray(steps, dtype=xp.int64, device=device(core)), axis=0)
    return xp.concat([unit(layer, 1) for layer in by_layer(chosen, channels)], axis=1)


def rejection(grid: Array, classes: Encoding, channels: Sequence[int]) -> Array:
    """Return what is added to the logits of queries where they resemble rejected regions.

    Args:
        grid: ``(B, C, h, w)``.
        classes: The encoded classes, K of them, stacked; they share rejected exemplars.
        channels: Channels of the layers in the grid.

    Returns:
        ``(B, K, h, w)``, 0 or less.
    """
    xp = array_namespace(grid)
    b, c, h, w = grid.shape
    k = classes["defect"].shape[0]
    cells = xp.reshape(grid - xp.mean(grid, axis=(2, 3), keepdims=True), (b, c, h * w)) * classes["scale"][:, None]
    defects = xp.reshape(classes["defect"], (-1, c))
    total: Array = 0.0
    for weight, layer, rejected, marked in zip(
        LAYER_WEIGHTS, *(by_layer(x, channels) for x in (cells, classes[KEY], defects)), strict=True
    ):
        directions = unit(layer, 1)
        defect = xp.max(xp.reshape(marked @ directions, (b, k, -1, h * w)), axis=2)
        total = total + weight * (defect - xp.max(rejected @ directions, axis=1, keepdims=True))
    return xp.reshape((GAIN * (total + MARGIN)).clip(-MOST, 0), (b, k, h, w))


def rejected_level(peaks: Array) -> Array:
    """Return the logit that three quarters of the false alarms of each class exceed ``(K,)``, 0 at least.

    Args:
        peaks: Largest logit of each rejected region for each class ``(n, K)``, as the support set finds it without the
            rejections.
    """
    return conformal_quantile(peaks, EXCEEDING).clip(0, None)


def suppress_unsure(logits: Array, levels: Array) -> Array:
    """Lower the logits of every image and class whose largest does not exceed a level by that level, to 0 and less.

    The order of images and pixels stays as it is.

    Args:
        logits: ``(B, K, H, W)``.
        levels: Of each class ``(K,)``, 0 or more.
    """
    xp = array_namespace(logits)
    peak = xp.max(logits, axis=(2, 3))
    return logits - xp.where(peak <= levels, levels, xp.zeros_like(peak))[..., None, None]
