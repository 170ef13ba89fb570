"""What was marked, at the image's own scale: it travels with the encoding, for the pictures."""

import numpy as np
import torch
from skimage.measure import label, regionprops
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs.annotations.labels import IGNORE

from .support import SupportSet

SIDE = 512
"""Largest side in pixels."""
LEAST_SIDE = 96
"""Smallest side in pixels of a part of an image."""
AROUND = 4
"""Sides of a mark that are shown around it, the mark itself included."""
OUTLINE = (0.0, 0.8, 0.0)
"""Colour of the marks' outlines, red, green and blue in 0..1."""


def preview(support: SupportSet) -> Tensor:
    """Draw the part of the first support image around its largest mark ``(3, h, w)`` uint8, marks outlined.

    It has the image's own scale unless the mark is larger than :data:`SIDE`; a normal image is shown whole, reduced.
    """
    image, mask = support.images[0], support.masks[0]
    marked = (mask > 0) & (mask != IGNORE)
    ring = F.max_pool2d(marked.float()[None], 3, stride=1, padding=1) - marked.float()
    image = torch.where(ring > 0, torch.tensor(OUTLINE).to(image)[:, None, None], image)
    if bool(marked.any()):
        image = image[:, *part_around(marked.cpu().numpy())]
    factor = min(SIDE / max(image.shape[-2:]), 1.0)
    height, width = (max(round(side * factor), 1) for side in image.shape[-2:])
    return (F.adaptive_avg_pool2d(image, (height, width)) * 255).round().to(torch.uint8)


def part_around(mask: np.ndarray, side: int | None = None) -> tuple[slice, slice]:
    """Return rows and columns of a square around the largest region of a mask ``(H, W)``, moved into the image.

    Args:
        mask: The mask; some of it is true.
        side: Of the square in pixels; ``None`` takes what shows the region well.
    """
    largest = max(regionprops(label(mask, connectivity=2)), key=lambda region: region.area)
    top, left, bottom, right = largest.bbox
    extent = max(bottom - top, right - left)
    side = max(extent, min(max(AROUND * extent, LEAST_SIDE), SIDE)) if side is None else side
    starts = (
        min(max((low + high - side) // 2, 0), max(length - side, 0))
        for low, high, length in ((top, bottom, mask.shape[0]), (left, right, mask.shape[1]))
    )
    rows, columns = (slice(start, start + side) for start in starts)
    return rows, columns
