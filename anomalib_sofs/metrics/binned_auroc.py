"""Pixel AUROC in bounded memory, fast on large images."""

from typing import Any

import torch
from anomalib.metrics import AUROC

from anomalib_sofs.batches import AnyBatch


class BinnedAUROC(AUROC):
    """anomalib's AUROC with fixed thresholds, counted by a histogram.

    torchmetrics compares a large input with one threshold after the other; the counts are the same.

    Args:
        thresholds: Number of thresholds, spread evenly over [0, 1].
        **kwargs: See :class:`anomalib.metrics.AUROC`.
    """

    def __init__(self, thresholds: int = 2000, **kwargs: Any) -> None:
        super().__init__(thresholds=thresholds, **kwargs)

    def update(self, batch: AnyBatch, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]  # AnomalibMetric's
        """Count a batch of probability maps and masks."""
        del args, kwargs
        scores, target = (getattr(batch, field, None) for field in self.fields)
        if scores is None or target is None:
            self._update_count -= 1
            return
        thresholds: Any = self.thresholds  # torchmetrics declares them as None
        count = len(thresholds)
        # bin i holds scores in [threshold i - 1, threshold i): those at least threshold i lie in the bins after it
        bins = torch.bucketize(scores.flatten().contiguous(), thresholds, right=True)
        for label in (0, 1):
            histogram = torch.bincount(bins[target.flatten() == label], minlength=count + 1)
            above = histogram.flip(0).cumsum(0).flip(0)[1:]
            self.confmat[:, label, 1] += above
            self.confmat[:, label, 0] += histogram.sum() - above


BinnedAUROC.__name__ = "AUROC"  # the name in the table of results
