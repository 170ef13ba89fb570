"""Normal and defective pixels counted by score: what metrics over all pixels keep, 14 MB however many there are."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from .score_bins import BINS, normal_and_defect


class PixelHistograms(Metric):
    """Histograms of the scores of normal and of defective pixels, summed over all processes."""

    full_state_update = False
    normal: Tensor
    defect: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("normal", torch.zeros(BINS, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("defect", torch.zeros(BINS, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, scores: Tensor, target: Tensor, ignore: Tensor | None = None) -> None:
        """Add pixels.

        Args:
            scores: Scores of any shape.
            target: Truth of that shape.
            ignore: Pixels that do not count, of that shape.

        Raises:
            ValueError: If a score is not a number.
        """
        normal, defect = normal_and_defect(scores, target, ignore)
        self.normal, self.defect = self.normal + normal, self.defect + defect
