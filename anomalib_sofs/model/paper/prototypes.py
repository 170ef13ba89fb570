"""Support prototypes: one mean defect feature per support image (steps 2 and 7)."""

from torch import Tensor

EPSILON = 0.0005


def masked_mean(features: Tensor, shares: Tensor) -> Tensor:
    """Average features over the defect, weighted by each cell's share (masked global average pooling).

    Args:
        features: Support features ``(N, D, h, w)``.
        shares: Defect share of each cell ``(N, h, w)``.

    Returns:
        Prototypes ``(N, D)``; exactly zero where the mask is empty.
    """
    weighted = (features * shares.unsqueeze(1)).sum(dim=(2, 3))
    return weighted / (shares.sum(dim=(1, 2)).unsqueeze(1) + EPSILON)
