"""The score from which on pixels are called defect, so that F1 is highest: anomalib's rule in bounded memory."""

import logging

import torch
from torch import Tensor

from .from_batch import FromBatch
from .pixel_histograms import PixelHistograms
from .score_bins import lowest_score

logger = logging.getLogger(__name__)

LEARNED_FROM_SUPPORT = 0.5
"""Where the limit that the support tells lies."""


def best_f1_bin(normal: Tensor, defect: Tensor) -> int:
    """Return the bin from which on everything is called defect for the highest F1; the highest bin of equal ones.

    Args:
        normal: Counts ``(N,)`` of normal pixels, from the lowest scores to the highest.
        defect: Counts ``(N,)`` of defective pixels, some of them above 0.
    """
    found_normal, found = (counts.cpu().double().flip(0).cumsum(0) for counts in (normal, defect))
    f1 = 2 * found / (found + found_normal + found[-1])
    return len(f1) - 1 - int(f1.argmax())


class BinnedF1Threshold(PixelHistograms):
    """Threshold of the highest F1 over histograms of the scores.

    anomalib's own keeps every pixel, 8 bytes each: 100 images of 12 megapixels ask for 10 GB.
    """

    def compute(self) -> Tensor:
        """Return the threshold, a scalar: the lowest score of the best bin."""
        if not bool(self.defect.any()):
            logger.warning(
                "The validation data shows no defective pixel: pixels are cut where the support images tell (%.1f).",
                LEARNED_FROM_SUPPORT,
            )
            return torch.tensor(LEARNED_FROM_SUPPORT)
        return torch.tensor(lowest_score(best_f1_bin(self.normal, self.defect)))


class F1Threshold(FromBatch, BinnedF1Threshold):  # type: ignore[misc]  # update takes a batch, as anomalib's do
    """:class:`BinnedF1Threshold` that is fed with anomalib's batches."""
