"""Self-support: what was found in a query shows the defect as it looks there, and the rest of it the background.

The support's defect and the query's differ by light, wear and the part; two defects of one image are much more alike
(Fan et al., "Self-Support Few-Shot Semantic Segmentation", ECCV 2022, found so for objects). So the query is split once
more, along the discriminant of its own defect from its own background.
"""

from typing import TYPE_CHECKING, NamedTuple

from array_api_compat import array_namespace

from anomalib_sofs.arrays import Array, cell_means, sigmoid

if TYPE_CHECKING:
    from torch import Tensor

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

    cells: Array  # (B, C, n)
    weights: Array  # (B, K, n) sum 1
    mean: Array  # (B, C, K)
    scale: Array  # (B, C, K) 1 / standard deviation


class _Apart(NamedTuple):
    """How the defect of each class stands apart from its background in the query itself."""

    cells: Array  # (B, C, n), centred
    direction: Array  # (B, C, K) background at 0, defect at 1
    mean: Array  # (B, C, K) of the background
    distance: Array  # (B, K) squared Mahalanobis distance between the two


def _background(cells: Array, found: Array) -> _Background:
    """Weigh the cells ``(B, C, n)`` by how little of a defect was found in them ``(B, K, n)``."""
    xp = array_namespace(cells)
    weights = (1 - found) ** 4
    weights = weights / xp.sum(weights, axis=2, keepdims=True).clip(1e-6, None)
    by_cell = xp.matrix_transpose(weights)
    mean = cells @ by_cell
    variance = (cells * cells) @ by_cell - mean * mean
    return _Background(cells, weights, mean, 1 / xp.sqrt(variance.clip(1e-6, None)))


def _discriminant(background: _Background, contrast: Array) -> Array:
    """Solve ``(correlation + 1) direction = contrast`` by conjugate gradients: matrix products only, so it exports.

    Args:
        background: Of each class.
        contrast: Of each class, scaled ``(B, C, K)``.
    """
    cells, weights, mean, scale = background
    xp = array_namespace(cells)
    direction, rest, step = xp.zeros_like(contrast), contrast, contrast
    length = xp.sum(rest * rest, axis=1, keepdims=True)
    for _ in range(CG_STEPS):
        scaled = step * scale
        along = xp.matrix_transpose(scaled) @ cells - xp.sum(scaled * mean, axis=1)[..., None]
        along = along * weights
        moved = (cells @ xp.matrix_transpose(along) - mean * xp.sum(along, axis=2)[:, None, :]) * scale + step
        amount = length / xp.sum(step * moved, axis=1, keepdims=True).clip(1e-12, None)
        direction = direction + amount * step
        rest = rest - amount * moved
        shorter = xp.sum(rest * rest, axis=1, keepdims=True)
        step = rest + shorter / length.clip(1e-12, None) * step
        length = shorter
    return direction


def _apart(found: Array, grid: Array) -> _Apart:
    """Tell the defects of a query from its background.

    Args:
        found: How much of the defect of each class was found in each cell ``(B, K, h, w)``, 0..1.
        grid: Features ``(B, C, h, w)``.
    """
    xp = array_namespace(grid)
    grid = grid - xp.mean(grid, axis=(2, 3), keepdims=True)  # for the variances: differences of squares
    # a quarter of the background tells as much
    background = _background(*(_flat(x[:, :, ::2, ::2]) for x in (grid, found)))
    share, cells = _flat(found), _flat(grid)
    share = share / xp.sum(share, axis=2, keepdims=True).clip(1e-6, None)
    contrast = (cells @ xp.matrix_transpose(share) - background.mean) * background.scale
    direction = _discriminant(background, contrast)
    distance = xp.sum(direction * contrast, axis=1).clip(1e-6, None)
    return _Apart(cells, direction * background.scale / distance[:, None, :], background.mean, distance)


def _flat(x: Array) -> Array:
    return array_namespace(x).reshape(x, (*x.shape[:2], -1))


def standing_out(logits: Array, grid: Array) -> Array:
    """Return how far the defect of each class stands out, see :func:`self_supported`, ``(B, K)``."""
    distance = _apart(cell_means(sigmoid(SHARPNESS * logits), 2), grid).distance
    return array_namespace(distance).log(distance)


def self_supported(logits: "Tensor", grid: "Tensor") -> tuple["Tensor", "Tensor"]:
    """Add to the logits of a query what its own defect and background say.

    Args:
        logits: First opinion on K classes ``(B, K, 2h, 2w)``.
        grid: Features ``(B, C, h, w)``.

    Returns:
        Logits ``(B, K, 2h, 2w)``, and how far the defect stands out: the logarithm of the squared Mahalanobis distance
        between defect and background ``(B, K)``.
    """
    import torch  # noqa: PLC0415 - only the network is computed here, which the runtime has exported
    from torch.nn import functional as F  # noqa: N812, PLC0415

    found = F.avg_pool2d((SHARPNESS * logits).sigmoid(), 2)
    cells, direction, mean, distance = _apart(found, grid)
    along = direction.transpose(1, 2) @ cells - (direction * mean).sum(1)[..., None]
    along = F.interpolate(
        along.clamp(-0.5, 1.5).view(*found.shape), size=logits.shape[-2:], mode="bilinear", align_corners=False
    )
    second = logits + SLOPE * (along - MIDDLE)
    # no pixel becomes surer than the surest one was: where nothing was found, there is nothing to look at
    return torch.minimum(second, logits.amax((2, 3), keepdim=True)), distance.log()
