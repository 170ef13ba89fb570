"""Area under the receiver operating characteristic: of pixels in bounded memory, of images exactly."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from .from_batch import FromBatch
from .pixel_histograms import PixelHistograms
from .score_bins import check_numbers


def auroc_of_counts(normal: Tensor, defect: Tensor) -> Tensor:
    """Return the probability that a defect scores higher than something normal; equal scores count half.

    Args:
        normal: Counts ``(N,)`` of what is normal, from the lowest scores to the highest.
        defect: Counts ``(N,)`` of defects.

    Returns:
        The area, float64; NaN where either kind is missing.
    """
    normal, defect = normal.cpu().double(), defect.cpu().double()
    lower = normal.cumsum(0) - normal
    return (defect * (lower + normal / 2)).sum() / (defect.sum() * normal.sum())


def auroc(scores: Tensor, target: Tensor) -> Tensor:
    """Return the exact AUROC of scores ``(N,)`` with truth ``(N,)``; NaN where only one kind occurs."""
    values, places = scores.unique(return_inverse=True)
    defect = torch.bincount(places[target.bool()], minlength=len(values))
    return auroc_of_counts(torch.bincount(places, minlength=len(values)) - defect, defect)


class BinnedAUROC(PixelHistograms):
    """AUROC over histograms of the scores: 14 MB, however many pixels there are.

    What falls into one bin counts as equal, see :mod:`.score_bins`: the value is off by at most half the share of pairs
    in which a normal and a defective pixel differ, but by less than the width of a bin.
    """

    def compute(self) -> Tensor:
        """Return the area; NaN where either kind is missing."""
        return auroc_of_counts(self.normal, self.defect).float()


class ExactAUROC(Metric):
    """AUROC of images, few enough to keep their scores; torchmetrics' own squeezes distances through a sigmoid."""

    full_state_update = False
    normal: list[Tensor] | Tensor
    defect: list[Tensor] | Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # lists of float32 vectors: what torchmetrics makes up for a process without any fits to those of the others
        self.add_state("normal", [], dist_reduce_fx="cat")
        self.add_state("defect", [], dist_reduce_fx="cat")

    def update(self, scores: Tensor, target: Tensor) -> None:
        """Add images.

        Args:
            scores: Scores ``(B,)``.
            target: Truth ``(B,)``.

        Raises:
            ValueError: If a score is not a number.
        """
        check_numbers(scores)
        scores, target = scores.flatten().float(), target.flatten().bool()
        assert isinstance(self.normal, list)  # noqa: S101 - they are joined for the time of compute only
        assert isinstance(self.defect, list)  # noqa: S101
        self.normal.append(scores[~target])
        self.defect.append(scores[target])

    def compute(self) -> Tensor:
        """Return the area; NaN where either kind is missing."""
        normal, defect = _joined(self.normal), _joined(self.defect)
        target = torch.cat([torch.zeros(len(normal)), torch.ones(len(defect))])
        return auroc(torch.cat([normal, defect]), target).float()


def _joined(state: list[Tensor] | Tensor) -> Tensor:
    """Join a list state, which is joined already where it came from several processes; it may be empty."""
    parts = state if isinstance(state, list) else [state]
    return torch.cat([torch.zeros(0), *(part.cpu() for part in parts)])


class AUROC(FromBatch, BinnedAUROC):  # type: ignore[misc]  # update takes a batch, as anomalib's do
    """:class:`BinnedAUROC` that is fed with anomalib's batches."""


class ImageAUROC(FromBatch, ExactAUROC):  # type: ignore[misc]  # update takes a batch, as anomalib's do
    """:class:`ExactAUROC` that is fed with anomalib's batches, under the name of anomalib's."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = f"{self.name.removesuffix('ImageAUROC')}AUROC"
