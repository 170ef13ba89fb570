"""IoU per class, mIoU and FB-IoU by the fixed evaluation protocol."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from .confusion import confusion, iou_of_classes


def episode_iou(counts: Tensor, classes: Sequence[str]) -> dict[str, Tensor]:
    """Return the IoU of the protocol from pooled counts.

    Args:
        counts: Confusion ``(classes, 2, 2)`` of the pixels of each class's queries.
        classes: Their names.

    Returns:
        ``IoU/CLASS`` for each class with queries, ``mIoU`` over these and ``FB-IoU``; empty without queries.
    """
    shown = counts.sum((1, 2)) > 0
    if not shown.any():
        return {}
    names = [name for name, there in zip(classes, shown.tolist(), strict=True) if there]
    iou = iou_of_classes(counts[shown])[:, 1]
    values = {f"IoU/{name}": value for name, value in zip(names, iou, strict=True)}
    values |= {"mIoU": iou.mean(), "FB-IoU": iou_of_classes(counts.sum(0)).mean()}
    return {name: value.float() for name, value in values.items()}


class EpisodeIoU(Metric):
    """Pooled intersections over pooled unions of each class.

    Args:
        classes: Every ``category/class``, the same in all processes; classes without a query stay out of the mean.
        **kwargs: See :class:`torchmetrics.Metric`.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, classes: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.classes = list(classes)
        self.add_state("counts", torch.zeros(len(self.classes), 2, 2, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, name: str, prediction: Tensor, target: Tensor, ignore: Tensor | None = None) -> None:
        """Add one query.

        Args:
            name: Its ``category/class``.
            prediction: Boolean mask at native resolution.
            target: True mask of the same shape.
            ignore: Pixels that do not count, of the same shape.
        """
        counts = torch.zeros_like(self.counts)
        counts[self.classes.index(name)] = confusion(prediction.bool(), target.bool(), (2, 2), ignore)
        self.counts = self.counts + counts

    def compute(self) -> dict[str, Tensor]:
        """Return ``IoU/CLASS`` for each class with queries, ``mIoU`` and ``FB-IoU``; empty without queries."""
        return episode_iou(self.counts, self.classes)
