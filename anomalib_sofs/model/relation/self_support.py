"""Self-support: what was found in a query shows the defect as it looks there, and the rest of it the background.

The support's defect and the query's differ by light, wear and the part; two defects of one image are much more alike
(Fan et al., "Self-Support Few-Shot Semantic Segmentation", ECCV 2022, found so for objects). So the query is split once
more, along the discriminant of its own defect from its own background.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

SHARPNESS = 2.0
"""Factor of the logits by which cells count as defect: doubtful ones hardly do."""
CG_STEPS = 4
"""Of conjugate gradients; shrunk by 1, the covariance of a background has few large eigenvalues."""
SLOPE = 4.0
"""Logits from the background to the defect of the query."""
MIDDLE = 0.7
"""Where the second opinion changes sign: background lies at 0, the defect at 1."""


class _Background(NamedTuple):
    """Cells of a query, and how each class sees them as background."""

    cells: Tensor  # (B, C, n)
    weights: Tensor  # (B, K, n) sum 1
    mean: Tensor  # (B, C, K)
    scale: Tensor  # (B, C, K) 1 / standard deviation


def _background(cells: Tensor, found: Tensor) -> _Background:
    """Weigh the cells ``(B, C, n)`` by how little of a defect was found in them ``(B, K, n)``."""
    weights = (1 - found) ** 4
    weights = weights / weights.sum(2, keepdim=True).clamp_min(1e-6)
    mean = cells @ weights.transpose(1, 2)
    variance = cells.square() @ weights.transpose(1, 2) - mean.square()
    return _Background(cells, weights, mean, 1 / variance.clamp_min(1e-6).sqrt())


def _discriminant(background: _Background, contrast: Tensor) -> Tensor:
    """Solve ``(correlation + 1) direction = contrast`` by conjugate gradients: matrix products only, so it exports.

    Args:
        background: Of each class.
        contrast: Of each class, scaled ``(B, C, K)``.
    """
    cells, weights, mean, scale = background
    direction, rest, step = torch.zeros_like(contrast), contrast, contrast
    length = rest.square().sum(1, keepdim=True)
    for _ in range(CG_STEPS):
        scaled = step * scale
        along = scaled.transpose(1, 2) @ cells - (scaled * mean).sum(1)[..., None]
        along = along * weights
        moved = (cells @ along.transpose(1, 2) - mean * along.sum(2)[:, None]) * scale + step
        amount = length / (step * moved).sum(1, keepdim=True).clamp_min(1e-12)
        direction = direction + amount * step
        rest = rest - amount * moved
        shorter = rest.square().sum(1, keepdim=True)
        step = rest + shorter / length.clamp_min(1e-12) * step
        length = shorter
    return direction


def self_supported(logits: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    """Add to the logits of a query what its own defect and background say.

    Args:
        logits: First opinion on K classes ``(B, K, 2h, 2w)``.
        grid: Features ``(B, C, h, w)``.

    Returns:
        Logits ``(B, K, 2h, 2w)``, and how far the defect stands out: the logarithm of the squared Mahalanobis distance
        between defect and background ``(B, K)``.
    """
    found = F.avg_pool2d((SHARPNESS * logits).sigmoid(), 2)
    grid = grid - grid.mean((2, 3), keepdim=True)  # for the variances: differences of squares
    # a quarter of the background tells as much
    background = _background(grid[:, :, ::2, ::2].flatten(2), found[:, :, ::2, ::2].flatten(2))
    share, x = found.flatten(2), grid.flatten(2)
    share = share / share.sum(2, keepdim=True).clamp_min(1e-6)
    contrast = (x @ share.transpose(1, 2) - background.mean) * background.scale
    direction = _discriminant(background, contrast)
    distance = (direction * contrast).sum(1).clamp_min(1e-6)
    direction = direction * background.scale / distance[:, None]
    along = direction.transpose(1, 2) @ x - (direction * background.mean).sum(1)[..., None]
    along = F.interpolate(
        along.clamp(-0.5, 1.5).view(*found.shape), size=logits.shape[-2:], mode="bilinear", align_corners=False
    )
    second = logits + SLOPE * (along - MIDDLE)
    # no pixel becomes surer than the surest one was: where nothing was found, there is nothing to look at
    return torch.minimum(second, logits.amax((2, 3), keepdim=True)), distance.log()
