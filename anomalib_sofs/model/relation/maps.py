"""Relations between a query and a support set: closed-form discriminants instead of learned features.

Features of one object say little about the next one; *relations* carry over: how far a cell lies along the direction
that separates the support's defect from the support's background. That direction is a linear discriminant in closed
form, so the whole support set shrinks to a few tensors of fixed size and the query needs matrix products only.

Grid: the image is enlarged twice before the backbone, so one cell is 4 native pixels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from .statistics import SupportRelations
from .surround import surround

EDGE, STEEPNESS = 0.35, 10.0
"""Where, along the main direction (background 0, defect 1), a cell stops counting as the query's background, and how
steeply."""
DEFECT_EDGE = 0.4
"""From where on a cell counts as the query's own defect."""
SPREAD_FLOOR = 1e-3
"""Least standard deviation along a direction that a map is divided by."""


DIRECTIONS = ("stride4", "stride8", "stride16", "all", "all_stiff", "local")
"""Names of the discriminants in order: of each layer, of all of them with a covariance shrunk a little and a lot, and
of the contrast with the surroundings."""
MAIN, STRIDE16, LOCAL = (DIRECTIONS.index(name) for name in ("all", "stride16", "local"))


def patch_grid(features: Sequence[Tensor]) -> Tensor:
    """Bring strides 4, 8 and 16 of the enlarged image onto one grid.

    Args:
        features: ``(B, 24, 2h, 2w)``, ``(B, 40, h, w)`` and ``(B, 112, h/2, w/2)``.

    Returns:
        ``(B, 176, h, w)``.
    """
    fine, middle, coarse = features
    coarse = F.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=False)
    return torch.cat([F.avg_pool2d(fine, 2), middle, coarse], dim=1).contiguous()


RELATIONS = (
    *("stride4", "stride8", "stride16", "all", "all_stiff"),
    *("background_centred", "support_centred", "adapted", "local"),
    *("all_sigma", "stride16_sigma", "local_sigma", "own_spread"),
    *("defect4", "background4", "rarity4"),
    *("defect8", "background8", "rarity8"),
    *("defect16", "background16", "rarity16"),
    "log_spread",
)
"""Names of the relation maps in order; ``log_spread``, of the query along the main direction, is constant."""
MAPS = len(RELATIONS) + 1
"""Channels that ``relate`` returns: the relations, then the constant ``odds`` of the support."""


LIMIT, SLOPE = 2.0, 1 / 3
"""Bound of a squeezed map, and its slope at 0."""
CLIP = 4.0
"""Largest absolute value of a map."""


def bounded(x: Tensor) -> Tensor:
    """Squeeze a map into -2..2; near 0 it shrinks to a third."""
    return LIMIT * torch.tanh(x * (SLOPE / LIMIT))


def _length(x: Tensor) -> Tensor:
    """Return the length of each column ``(B, 1, n)``; several times as fast as ``norm`` along this dimension."""
    return x.square().sum(1, keepdim=True).sqrt().clamp_min(1e-12)


def relate(grid: Tensor, classes: SupportRelations, channels: Sequence[int]) -> Tensor:
    """Compare every cell of the queries with every class of a support set.

    The query is centred on its own mean: another light or position moves all cells alike. No data-dependent branch,
    only products, means and maxima, so that it exports.

    Args:
        grid: ``(B, C, h, w)``, see ``patch_grid``.
        classes: The encoded classes, K of them, stacked; what they share is not.
        channels: Channels of the three layers in the grid, ``(24, 40, 112)``.

    Returns:
        Relation maps ``(B * K, MAPS, h, w)``, the classes of one query next to each other.
    """
    b, _, h, w = grid.shape
    directions = classes.directions  # (K, 6, C)
    k = directions.shape[0]
    main = directions[:, MAIN]  # (K, C)
    sigma = classes.sigma[..., None]  # (K, 6, 1)

    scale = classes.scale[:, None]
    own = grid.mean((2, 3))[..., None] * scale  # (B, C, 1)
    x = torch.addcmul(-own, grid.flatten(2), scale)  # (B, C, n)
    along = (directions.flatten(0, 1) @ x).view(b, k, -1, h * w)
    full = along[:, :, MAIN]
    support_centred = full + main @ (own - (classes.mean * classes.scale)[:, None])

    # Two steps of a two-class fit on the query itself: its background without the defect, then its own defect.
    cells = x.transpose(1, 2)
    background_weight = torch.sigmoid(-STEEPNESS * (full - EDGE))
    rest = (background_weight @ cells) / background_weight.sum(2, keepdim=True).clamp_min(1e-3)  # (B, K, C)
    background_centred = full - (rest * main).sum(2, keepdim=True)
    defect_weight = (background_centred - DEFECT_EDGE).clamp(0, 1)
    amount = defect_weight.sum(2, keepdim=True)
    found = (defect_weight @ cells - amount * rest) / (amount + 1e-3)
    trust = amount / (amount + 1) / 2
    contrast = classes.contrast * (1 - trust) + found * trust
    adapted = contrast @ classes.precision
    adapted = adapted / (adapted * contrast).sum(2, keepdim=True).clamp_min(1e-6)
    adapted = adapted @ x - (adapted * rest).sum(2, keepdim=True)

    local = along[:, :, LOCAL].reshape(b, k, h, w)
    local = (local - surround(local)).flatten(2)
    spread = full.std(2, keepdim=True).clamp_min(SPREAD_FLOOR)
    maps = [
        *(along[:, :, DIRECTIONS.index(name)] for name in ("stride4", "stride8", "stride16", "all", "all_stiff")),
        *(background_centred, support_centred, adapted, local),
        bounded(full / sigma[:, MAIN]),
        bounded(along[:, :, STRIDE16] / sigma[:, STRIDE16]),
        bounded(local / sigma[:, LOCAL]),
        bounded(full / spread),
    ]
    exemplars = torch.cat([classes.background, classes.defect.flatten(0, 1)])
    for layer, cells in zip(x.split(list(channels), 1), exemplars.split(list(channels), 1), strict=True):
        length = _length(layer)
        product = cells @ layer
        background, defect = product[:, : len(classes.background)], product[:, len(classes.background) :]
        maps.append(defect.view(b, k, -1, h * w).amax(2) / length)
        maps.append((background.amax(1, keepdim=True) / length).expand_as(full))
        maps.append((length / layer.shape[1] ** 0.5 - 1).expand_as(full))
    odds = classes.odds[None, :, None].expand_as(full)
    constant = spread.log().expand_as(full)
    stacked = torch.stack(maps, dim=2).clamp(-CLIP, CLIP)
    return torch.cat([stacked, constant[:, :, None], odds[:, :, None]], dim=2).view(b * k, -1, h, w)
