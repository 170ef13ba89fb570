"""The support's background per layer, and how far a query leaves it (step 4)."""

import torch
from torch import Tensor

from anomalib_sofs.model.encoding import Encoding

from .coreset import coreset
from .priors import abnormal_prior, background_cells

PREFIX = "background_cells_"  # of the names in an encoding


def encode_background(
    features: list[Tensor], shares: Tensor, usable: Tensor | None = None, size: float | None = None
) -> Encoding:
    """Collect the background cells of each layer, or a coreset of them.

    Args:
        features: Support features, one ``(N, D_l, h, w)`` per layer.
        shares: Share of each cell that is defect ``(N, h, w)``.
        usable: Which cells count ``(N, h, w)``, bool; ``None`` for all.
        size: Of the coreset, a share or a number of the cells; ``None`` keeps all.

    Returns:
        ``background_cells_l (M, D_l)`` for each layer l.
    """
    encoding = {}
    for i, layer in enumerate(features):  # of one layer at a time there may be a gigabyte
        cells = background_cells(layer, shares, usable)
        encoding[f"{PREFIX}{i}"] = cells if size is None else coreset(cells, size)
    return encoding


def abnormal_priors(features: list[Tensor], encoding: Encoding) -> Tensor:
    """Compute the abnormal prior per layer ``(B, L, h, w)``; needs no trained weight."""
    maps = [abnormal_prior(layer, encoding[f"{PREFIX}{i}"]) for i, layer in enumerate(features)]
    return torch.stack(maps, dim=1)
