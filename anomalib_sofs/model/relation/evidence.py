"""Evidence: a defect is called on about as much of it as a marked region has, not on one sure pixel.

A speck that looks like the defect is found in many a good part; what is smaller or less sure than the marked one as a
whole does not make the part a bad one.
"""

import numpy as np
import torch
from skimage.measure import label
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

TIMES = 2.0
"""As many of the surest pixels as a marked region has, times this, must be defect on average: what is found is larger
than what is marked, as a rule."""
MOST = 200
"""Pixels that count at most: beyond, a smaller defect of the same class would be passed over."""
LEAST = -0.25
"""Mean logit of these pixels from which there is a defect, where it stands out as the marked one does."""
NOTHING = -20.0
"""Logit of a pixel that is not there."""


def region_pixels(mask: Tensor) -> Tensor:
    """Return the median size in pixels of the connected regions of a mask ``(H, W)``, a scalar.

    Regions, as several defects may be marked in one image, and a single one is to be found in the next.
    """
    regions = label(mask.cpu().numpy() > 0)
    sizes = torch.from_numpy(np.bincount(regions.ravel())[1:])
    return sizes.median().to(mask)


def confirmed(logits: Tensor, evidence: Tensor, marked: Tensor) -> Tensor:
    """Lower the logits of every image and class that shows too little evidence to 0 and less.

    What is lowered keeps its order, and the images are ordered by their evidence.

    Args:
        logits: ``(B, K, H, W)``.
        evidence: Logits that are weighed ``(B, K, H, W)``.
        marked: Pixels of a marked region of each class ``(K,)``, see :func:`region_pixels`.
    """
    # room for smaller images, without a branch on their size: it would not export
    surest = F.pad(evidence.flatten(2), (0, MOST), value=NOTHING).topk(MOST)[0]  # (B, K, MOST)
    counted = torch.arange(MOST, device=logits.device) < (TIMES * marked).clamp(1, MOST)[:, None]
    spare = torch.where(counted, surest, 0.0).sum(2) / counted.sum(1) - LEAST
    lowered = torch.where(spare > 0, 0.0, logits.flatten(2).amax(2).clamp_min(0) - spare)
    return logits - lowered[..., None, None]
