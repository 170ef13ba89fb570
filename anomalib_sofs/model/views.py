"""Views of a support crop: the marked defect may run across, the next one up and down."""

import torch
from torch import Tensor


def views(crop: Tensor) -> list[Tensor]:
    """Return a crop ``(..., H, W)`` as it is, and turned by a quarter. Mirror images add nothing (measured)."""
    return [crop, torch.rot90(crop, 1, (-2, -1))]
