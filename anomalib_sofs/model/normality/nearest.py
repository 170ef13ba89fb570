"""The nearest normal cell: was something like this ever seen?"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

MOST_CELLS = 4096
"""Normal cells that are kept of a layer, drawn at random: bounds memory and time for any number of images."""
CHUNK = 1024
"""Normal cells that are compared at once."""


def normal_cells(features: Sequence[Tensor]) -> Tensor:
    """Collect unit cells of feature maps ``(1, D, h, w)``, always the same ones: ``(M, D)``."""
    cells = F.normalize(torch.cat([feature[0].flatten(1).T for feature in features]), dim=1)
    order = torch.randperm(len(cells), generator=torch.Generator().manual_seed(0))[:MOST_CELLS]
    return cells[order.to(cells.device)].contiguous()


def nearest_distance(feature: Tensor, cells: Tensor) -> Tensor:
    """Return one minus the cosine to the nearest normal cell.

    Args:
        feature: ``(B, D, h, w)``.
        cells: See :func:`normal_cells`.

    Returns:
        ``(B, 1, h, w)``.
    """
    b, _, h, w = feature.shape
    unit = F.normalize(feature.flatten(2), dim=1)
    best = torch.stack([(part @ unit).amax(dim=1) for part in cells.split(CHUNK)]).amax(dim=0)
    return (1 - best).view(b, 1, h, w)
