"""Relations on a grid of 2 native pixels, from the two finest layers: where exactly a defect ends.

The same discriminants as on the grid of 4 pixels, of layers too fine to tell what a defect is.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs.model.modes import recording

from .fine_statistics import BOTH, FineRelations
from .maps import CLIP, bounded
from .surround import surround

FINE_RELATIONS = ("stride2", "stride4", "both", "both_stiff", "both_sigma", "local", "local_sigma")
"""Names of the maps in order."""


def fine_grid(features: Sequence[Tensor]) -> Tensor:
    """Bring strides 2 and 4 of the enlarged image onto one grid.

    Args:
        features: ``(B, 16, 4h, 4w)`` and ``(B, 24, 2h, 2w)``.

    Returns:
        ``(B, 40, 2h, 2w)``.
    """
    finest, fine = features
    return torch.cat([F.avg_pool2d(finest, 2), fine], dim=1)


def relate_fine(grid: Tensor, classes: FineRelations) -> Tensor:
    """Compare every fine cell of the queries with every class of a support set.

    Args:
        grid: ``(B, C, H, W)``, see :func:`fine_grid`.
        classes: The encoded classes, K of them, stacked.

    Returns:
        Maps ``(B * K, 7, H, W)``, the classes of one query next to each other.
    """
    b, _, h, w = grid.shape
    k = classes.directions.shape[0]
    sigma = classes.sigma[None, :, None, None]
    directions = classes.directions.flatten(0, 1)
    if not recording() and grid.is_contiguous():  # as a file has them
        along = directions @ grid.flatten(2)
    else:  # cell by cell, as convolutions leave them in memory: nothing is reordered
        along = (grid.permute(0, 2, 3, 1).flatten(1, 2) @ directions.T).transpose(1, 2)
    along = along.reshape(b, k, -1, h * w)
    # centred on the query's own mean afterwards: there are fewer maps than channels
    along = (along - along.mean(3, keepdim=True)).reshape(b, k, -1, h, w)
    both = along[:, :, BOTH]
    local = both - surround(both)
    maps = [*along.unbind(2), bounded(both / sigma), local, bounded(local / sigma)]
    return torch.stack(maps, dim=2).clamp(-CLIP, CLIP).reshape(b * k, -1, h, w)
