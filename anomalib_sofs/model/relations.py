"""Relations between a query and a support set: closed-form discriminants instead of learned features.

Features of one object say little about the next one; *relations* carry over: how far a cell lies along the direction
that separates the support's defect from the support's background. That direction is a linear discriminant in closed
form, so the whole support set shrinks to a few tensors of fixed size and the query needs matrix products only.

Grid: the image is enlarged twice before the backbone, so one cell is 4 native pixels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

BOX = 17
"""Cells across the surround that the local contrast is taken against."""


class SupportRelations(NamedTuple):
    """Support encoding: everything the query path needs, C channels (176 for the default backbone)."""

    scale: Tensor  # (C,) 1 / standard deviation of the background cells
    mean: Tensor  # (C,) mean of the background cells
    contrast: Tensor  # (C,) defect minus background, scaled
    directions: Tensor  # (C, 6) discriminants; the defect lies at 1, the background at 0
    sigma: Tensor  # (6,) standard deviation of the background along them
    precision: Tensor  # (C, C) inverse of the shrunk background covariance
    whiten: Tensor  # (C, C) its Cholesky factor
    defect: Tensor  # (32, C) whitened unit defect cells
    background: Tensor  # (64, C) whitened unit background cells


def patch_grid(features: Sequence[Tensor]) -> Tensor:
    """Bring strides 4, 8 and 16 of the enlarged image onto one grid.

    Args:
        features: ``(B, 24, 2h, 2w)``, ``(B, 40, h, w)`` and ``(B, 112, h/2, w/2)``.

    Returns:
        ``(B, 176, h, w)``.
    """
    fine, middle, coarse = features
    coarse = F.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=False)
    return torch.cat([F.avg_pool2d(fine, 2), middle, coarse], dim=1)


def surround(x: Tensor, cells: int = BOX) -> Tensor:
    """Return the mean ``(B, C, h, w)`` over a square of ``cells``; separable, so its cost is linear in ``cells``."""
    half = cells // 2
    x = F.avg_pool2d(x, (cells, 1), 1, (half, 0), count_include_pad=False)
    return F.avg_pool2d(x, (1, cells), 1, (0, half), count_include_pad=False)


RELATIONS = ("stride4", "stride8", "stride16", "all", "all_stiff", "settled", "support_centred", "adapted", "local",
             "all_sigma", "stride16_sigma", "local_sigma", "own_spread", "rarity", "defect", "background",
             "nearer")  # fmt: skip
"""Names of the relation maps in order; the log spread of the query along the main direction follows, a constant map."""
MAPS = len(RELATIONS) + 1
"""Channels that ``relate`` returns."""


def _bounded(x: Tensor) -> Tensor:
    return 2 * torch.tanh(x / 6)


def relate(grid: Tensor, support: SupportRelations) -> Tensor:
    """Compare every cell of the queries with the support set.

    The query is centred on its own mean: another light or position moves all cells alike. No data-dependent branch,
    only products, means and maxima, so that it exports.

    Args:
        grid: ``(B, C, h, w)``, see ``patch_grid``.
        support: The encoded support set.

    Returns:
        Relation maps ``(B, MAPS, h, w)``.
    """
    b, c, h, w = grid.shape
    x = grid.flatten(2).transpose(1, 2) * support.scale  # (B, n, C)
    own = x.mean(1, keepdim=True)
    support_centred = (x - support.mean * support.scale) @ support.directions[:, 3]
    x = x - own
    along = x @ support.directions  # (B, n, 6)
    full = along[..., 3]

    # Two steps of a two-class fit on the query itself: its background without the defect, then its own defect.
    calm = torch.sigmoid(-10 * (full - 0.35))
    rest = (x * calm[..., None]).sum(1, keepdim=True) / calm.sum(1).clamp_min(1e-3)[:, None, None]
    settled = full - (rest @ support.directions[:, 3])
    sure = (settled - 0.4).clamp(0, 1)
    amount = sure.sum(1)[:, None]
    found = ((x - rest) * sure[..., None]).sum(1) / (amount + 1e-3)
    trust = amount / (amount + 1) / 2
    contrast = support.contrast * (1 - trust) + found * trust  # (B, C)
    adapted = contrast @ support.precision
    adapted = adapted / (adapted * contrast).sum(1, keepdim=True).clamp_min(1e-6)
    adapted = ((x - rest) @ adapted[..., None])[..., 0]

    local = along[..., 5].reshape(b, 1, h, w)
    local = (local - surround(local)).flatten(1)
    white = x @ support.whiten
    rarity = white.norm(dim=2) / c**0.5
    white = F.normalize(white, dim=2)
    defect = (white @ support.defect.T).amax(2)
    background = (white @ support.background.T).amax(2)
    spread = full.std(1, keepdim=True).clamp_min(1e-3)
    maps = torch.stack(
        [along[..., 0], along[..., 1], along[..., 2], full, along[..., 4], settled, support_centred, adapted, local,
         _bounded(full / support.sigma[3]), _bounded(along[..., 2] / support.sigma[2]),
         _bounded(local / support.sigma[5]), _bounded(full / spread), rarity - 1, defect, background,
         defect - background], dim=1,
    ).clamp(-4, 4)  # fmt: skip
    constant = spread.log()[:, None].expand(-1, -1, h * w)
    return torch.cat([maps, constant], dim=1).view(b, -1, h, w)
