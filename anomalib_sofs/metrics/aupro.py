"""Area under the per-region overlap curve, over images of any sizes, in bounded memory."""

from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from .from_batch import FromBatch
from .score_bins import BINS, normal_and_defect, score_bins

FPR_LIMIT = 0.3
REGION = 2**40
"""What the pixels of one region weigh together. Whole numbers, so that the sum is the same in any order and over any
number of processes; they hold eight million regions, and a pixel's share is exact to 2^-41 of its region."""


def region_weights(mask: Tensor) -> Tensor:
    """Return what each defective pixel weighs: :data:`REGION` over the size of its 8-connected region.

    Args:
        mask: Boolean mask ``(H, W)``.

    Returns:
        Weights ``(N,)`` of its pixels in row order, int64, on the CPU.
    """
    mask = mask.cpu()
    _, regions = cv2.connectedComponents(mask.numpy().astype(np.uint8), connectivity=8)
    labels = torch.from_numpy(regions)[mask]
    sizes = torch.bincount(labels).clamp(min=1)
    return ((REGION + sizes // 2) // sizes)[labels]


def aupro_of_counts(background: Tensor, overlap: Tensor, fpr_limit: float = FPR_LIMIT) -> Tensor:
    """Return the normalised area under the per-region overlap curve up to a false positive rate.

    The curve is linear between its points, also at the limit.

    Args:
        background: Counts ``(N,)`` of background pixels, from the lowest scores to the highest.
        overlap: Summed weights ``(N,)`` of defective pixels, see :func:`region_weights`.
        fpr_limit: False positive rate up to which the area is taken.

    Returns:
        The area over the limit, float64; NaN without any background or region.
    """
    counts = torch.stack([background, overlap]).cpu().double().flip(1)
    if not counts.any(dim=1).all():
        return torch.tensor(torch.nan, dtype=torch.float64)
    counts = counts[:, counts.any(dim=0)]
    start = torch.zeros(2, 1, dtype=torch.float64)
    rate, found = torch.cat([start, counts.cumsum(1)], dim=1) / counts.sum(1, keepdim=True)
    last = int((rate <= fpr_limit).sum())  # the first point beyond the limit
    if 0 < last < len(rate):
        share = (fpr_limit - rate[last - 1]) / (rate[last] - rate[last - 1])
        found[last] = found[last - 1] + share * (found[last] - found[last - 1])
        rate[last] = fpr_limit
    return torch.trapezoid(found[: last + 1], rate[: last + 1]) / fpr_limit


class BinnedAUPRO(Metric):
    """AUPRO over histograms of the scores: 14 MB, however many pixels there are.

    Args:
        fpr_limit: False positive rate up to which the area is taken.
        **kwargs: See :class:`torchmetrics.Metric`.
    """

    full_state_update = False
    background: Tensor
    overlap: Tensor

    def __init__(self, fpr_limit: float = FPR_LIMIT, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fpr_limit = fpr_limit
        self.add_state("background", torch.zeros(BINS, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("overlap", torch.zeros(BINS, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, scores: Tensor, target: Tensor, ignore: Tensor | None = None) -> None:
        """Add images of one size.

        Args:
            scores: Anomaly maps ``(B, H, W)``.
            target: True masks ``(B, H, W)``.
            ignore: Pixels that do not count, ``(B, H, W)``; a region is what is left of it.

        Raises:
            ValueError: If a score is not a number.
        """
        background, _ = normal_and_defect(scores, target, ignore)
        self.background = self.background + background
        defect = target.bool() if ignore is None else target.bool() & ~ignore
        size = defect.shape[-2:]
        for one, mask in zip(scores.reshape(-1, *size), defect.reshape(-1, *size), strict=True):
            if mask.any():
                self._add_regions(one[mask], region_weights(mask))

    def _add_regions(self, scores: Tensor, weights: Tensor) -> None:
        bins = score_bins(scores).cpu()
        overlap = torch.zeros(BINS, dtype=torch.int64).index_add_(0, bins, weights)
        self.overlap = self.overlap + overlap.to(self.overlap.device)

    def compute(self) -> Tensor:
        """Return the area; NaN without any background or region."""
        return aupro_of_counts(self.background, self.overlap, self.fpr_limit).float()


class AUPRO(FromBatch, BinnedAUPRO):  # type: ignore[misc]  # update takes a batch, as anomalib's do
    """:class:`BinnedAUPRO` that is fed with anomalib's batches."""
