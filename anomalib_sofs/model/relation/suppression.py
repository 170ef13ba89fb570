"""Suppression: what a query shows near what people called no defect, see :mod:`.rejections`."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from .rejections import KEY, LINES, Encoding
from .surround import BOX, surround

RAMP = 1.0
"""Logits above its level at which a find is left as it is."""


def suppressed(logits: Tensor, grid: Tensor, classes: Encoding) -> Tensor:
    """Lower what does not exceed the level that rejected regions set for it.

    Features are averaged over what is found around a cell, weighted by its probability, and so is compared what is
    found as a whole: single cells of a defect and of a false alarm look alike more often.

    Args:
        logits: What one look or several found ``(B, looks * K, 2h, 2w)``, the classes of a look next to each other.
        grid: Features ``(B, C, h, w)``.
        classes: The encoded classes, K of them, stacked.

    Returns:
        Logits of the same shape: where the highest around is no more than the level, 0 at most.
    """
    levels = _levels(grid, classes)
    (b, k, _, h, w), (rows, columns) = levels.shape, logits.shape[-2:]
    found = F.avg_pool2d(logits.sigmoid(), 2).view(b, -1, k, 1, h, w)
    levels = surround(levels[:, None] * found) / surround(found).clamp_min(1e-6)
    level = levels.amax(3).clamp_min(0).flatten(1, 2)
    highest = F.max_pool2d(logits, 2)
    for box in ((1, BOX), (BOX, 1)):  # one axis after the other: a ninth of the comparisons
        highest = F.max_pool2d(highest, box, stride=1, padding=(box[0] // 2, box[1] // 2))
    lowered = level * (1 - (highest - level) / RAMP).clamp(0, 1)
    return logits - F.interpolate(lowered, size=(rows, columns), mode="bilinear", align_corners=False)


def _levels(grid: Tensor, classes: Encoding) -> Tensor:
    """Return the levels that rejected regions set for each cell and class ``(B, K, 2 * n, h, w)``."""
    (b, _, h, w), slopes = grid.shape, classes[KEY].flatten(1, 2)  # (K, 2 * n, C)
    at_defect = torch.tensor([start for start, _ in LINES]).to(slopes).repeat_interleave(slopes.shape[1] // len(LINES))
    start = at_defect - (slopes * classes["contrast"][:, None]).sum(2)
    along = (slopes * classes["scale"]).flatten(0, 1)
    # the grid itself is neither centred nor scaled: copies of it would cost more than all the rest
    offset = start.flatten()[:, None] - along @ grid.mean((2, 3))[..., None]
    return (along @ grid.flatten(2) + offset).view(b, slopes.shape[0], -1, h, w)
