"""A thumbnail of the support: it travels with the encoding, for the pictures."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs.annotations.labels import IGNORE

from .support import SupportSet

SIDE = 512
"""Largest side in pixels."""
OUTLINE = (0.0, 0.8, 0.0)
"""Colour of the marks' outlines, red, green and blue in 0..1."""


def preview(support: SupportSet) -> Tensor:
    """Draw the first support image ``(3, h, w)`` uint8, its marks outlined."""
    image, mask = support.images[0], support.masks[0]
    marked = ((mask > 0) & (mask != IGNORE)).float()[None]
    ring = F.max_pool2d(marked, 3, stride=1, padding=1) - marked
    image = torch.where(ring > 0, torch.tensor(OUTLINE).to(image)[:, None, None], image)
    factor = min(SIDE / max(image.shape[-2:]), 1.0)
    height, width = (max(round(side * factor), 1) for side in image.shape[-2:])
    return (F.adaptive_avg_pool2d(image, (height, width)) * 255).round().to(torch.uint8)
