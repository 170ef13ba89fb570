"""One class per pixel out of the probability maps of several classes."""

import torch
from torch import Tensor

THRESHOLD = 0.5


def class_map(maps: Tensor) -> Tensor:
    """Give every pixel its most probable class.

    Args:
        maps: Probability of each class ``(B, C, H, W)``.

    Returns:
        ``(B, H, W)``: 0 where no class is above :data:`THRESHOLD`, else 1, 2, ... in the order of the maps.
    """
    best, index = maps.max(dim=1)
    return torch.where(best > THRESHOLD, index + 1, 0)
