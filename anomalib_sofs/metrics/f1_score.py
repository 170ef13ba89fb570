"""F1 score of decided images or pixels."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from .confusion import confusion, f1_of_counts
from .from_batch import FromBatch


class BinaryF1(Metric):
    """F1 score that leaves out ignored pixels and is NaN, not 0, where nothing at all was counted."""

    full_state_update = False
    counts: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("counts", torch.zeros(2, 2, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, found: Tensor, target: Tensor, ignore: Tensor | None = None) -> None:
        """Add images or pixels.

        Args:
            found: Boolean decisions of any shape.
            target: Truth of that shape.
            ignore: What does not count, of that shape.
        """
        self.counts = self.counts + confusion(found.bool(), target.bool(), (2, 2), ignore)

    def compute(self) -> Tensor:
        """Return the score."""
        return f1_of_counts(self.counts).float()


class F1Score(FromBatch, BinaryF1):  # type: ignore[misc]  # update takes a batch, as anomalib's do
    """:class:`BinaryF1` that is fed with anomalib's batches."""
