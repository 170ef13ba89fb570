"""Training loss: mixed normal Dice plus a little binary cross entropy."""

import torch
from torch import Tensor

DICE_EPSILON = 1e-5
ENTROPY_EPSILON = 1e-6
ENTROPY_WEIGHT = 0.01
DEFECT_SHARE = 0.1  # a cell is a target once more than a tenth of it is defect


def mixed_normal_dice(probability: Tensor, target: Tensor, smooth: float = 1e5) -> Tensor:
    """Dice loss that stays defined for images without any defect (Zhang et al. 2024, mixed normal Dice).

    Args:
        probability: ``(B, h, w)`` in [0, 1].
        target: ``(B, h, w)`` in {0, 1}.
        smooth: Weight of the summed probability of a normal image; 1e5 is the paper's. Values this large saturate
            the term at 1 (no gradient) unless the sum is about ``1 / smooth``.

    Returns:
        The loss of each row ``(B,)``.
    """
    total = probability.sum(dim=(1, 2))
    overlap = (probability * target).sum(dim=(1, 2))
    size = target.sum(dim=(1, 2))
    dice = 1 - (2 * overlap + DICE_EPSILON) / (total + size + DICE_EPSILON)
    return torch.where(size > 0, dice, 1 - 1 / (smooth * total + 1))


def binary_cross_entropy(probability: Tensor, target: Tensor) -> Tensor:
    """Mean cross entropy over every cell of the batch, with 1e-6 inside the logarithms."""
    defect = target * (probability + ENTROPY_EPSILON).log()
    normal = (1 - target) * (1 - probability + ENTROPY_EPSILON).log()
    return -(defect + normal).mean()


def sofs_loss(probability: Tensor, target: Tensor, smooth: float = 1e5) -> Tensor:
    """Combine both terms as the paper does: Dice + 0.01 x cross entropy.

    Args:
        probability: ``(B, h, w)`` in [0, 1].
        target: ``(B, h, w)`` in {0, 1}.
        smooth: See :func:`mixed_normal_dice`.

    Returns:
        A scalar.
    """
    dice = mixed_normal_dice(probability, target, smooth).mean()
    return dice + ENTROPY_WEIGHT * binary_cross_entropy(probability, target)
