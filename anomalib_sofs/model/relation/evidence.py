"""Evidence: a defect is called on about as much of it as a marked region has, not on one sure pixel.

A speck that looks like the defect is found in many a good part; what is smaller or less sure than the marked one as a
whole does not make the part a bad one.
"""

import numpy as np
import torch
from skimage.measure import label
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

PIXEL_RATIO = 2.0
"""As many of the surest pixels as a marked region has, times this, must be defect on average: what is found is larger
than what is marked, as a rule."""
MAX_PIXELS = 200
"""Pixels that count at most: beyond, a smaller defect of the same class would be passed over."""
MIN_EVIDENCE = -0.25
"""Mean logit of these pixels from which there is a defect, where it stands out as the marked one does."""
NO_PIXEL = -20.0
"""Logit of a pixel that is not there."""


def region_pixels(mask: Tensor) -> Tensor:
    """Return the median size in pixels of the connected regions of a mask ``(H, W)``, a scalar.

    Regions, as several defects may be marked in one image, and a single one is to be found in the next.
    """
    regions = label(mask.cpu().numpy() > 0)
    sizes = torch.from_numpy(np.bincount(regions.ravel())[1:])
    return sizes.median().to(mask)


def suppress_weak(logits: Tensor, evidence: Tensor, marked: Tensor) -> Tensor:
    """Lower the logits of every image and class that shows too little evidence to 0 and less.

    What is lowered keeps its order, and the images are ordered by their evidence.

    Args:
        logits: ``(B, K, H, W)``.
        evidence: Logits that are weighed ``(B, K, H, W)``.
        marked: Pixels of a marked region of each class ``(K,)``, see :func:`region_pixels`.
    """
    # room for smaller images, without a branch on their size: it would not export
    highest = F.pad(evidence.flatten(2), (0, MAX_PIXELS), value=NO_PIXEL).topk(MAX_PIXELS)[0]  # (B, K, MAX_PIXELS)
    counted = torch.arange(MAX_PIXELS, device=logits.device) < (PIXEL_RATIO * marked).clamp(1, MAX_PIXELS)[:, None]
    spare = torch.where(counted, highest, 0.0).sum(2) / counted.sum(1) - MIN_EVIDENCE
    lowered = torch.where(spare > 0, 0.0, logits.flatten(2).amax(2).clamp_min(0) - spare)
    return logits - lowered[..., None, None]
