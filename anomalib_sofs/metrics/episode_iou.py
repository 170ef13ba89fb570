"""IoU per class, mIoU and FB-IoU by the fixed evaluation protocol."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.classification import BinaryConfusionMatrix


class EpisodeIoU(nn.Module):
    """Pooled intersections over pooled unions of each class.

    Args:
        classes: Every ``category/class``; classes without a query stay out of the mean.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__()
        self.classes = list(classes)
        self.matrices = nn.ModuleList(BinaryConfusionMatrix() for _ in self.classes)

    def update(self, name: str, prediction: Tensor, target: Tensor) -> None:
        """Add one query.

        Args:
            name: Its ``category/class``.
            prediction: Boolean mask at native resolution.
            target: True mask of the same shape.
        """
        metric: Any = self.matrices[self.classes.index(name)]
        metric.update(prediction.int(), target.int())

    def compute(self) -> dict[str, Tensor]:
        """Return ``IoU/category/class`` for each class with queries, ``mIoU`` and ``FB-IoU``; empty without queries."""
        values, pooled = {}, []
        metrics: list[Any] = list(self.matrices)
        for name, metric in zip(self.classes, metrics, strict=True):
            if metric.update_called:
                matrix = metric.compute().double()
                values[f"IoU/{name}"] = _foreground_iou(matrix)
                pooled.append(matrix)
        if not values:
            return {}
        total = torch.stack(pooled).sum(dim=0)
        both = torch.stack([_foreground_iou(total), _foreground_iou(total.flip(0, 1))])
        mean = torch.stack(list(values.values())).mean()
        return {name: value.float() for name, value in (values | {"mIoU": mean, "FB-IoU": both.mean()}).items()}


def _foreground_iou(matrix: Tensor) -> Tensor:
    """IoU of class 1 from a confusion matrix ``(2, 2)`` of truth x prediction; 1 where it never occurs."""
    union = matrix.sum() - matrix[0, 0]
    return torch.where(union > 0, matrix[1, 1] / union.clamp(min=1), 1.0)
