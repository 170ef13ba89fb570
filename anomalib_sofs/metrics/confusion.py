"""Counts of pixels by truth and prediction: what IoU, F1 and the confusion of classes are made of."""

import torch
from torch import Tensor

from .score_bins import CHUNK


def confusion(found: Tensor, truth: Tensor, shape: tuple[int, int], ignore: Tensor | None = None) -> Tensor:
    """Count pixels by true and by found class.

    Args:
        found: Found class of each pixel, from 0 on, or a boolean mask.
        truth: True class, of the same shape.
        shape: Number of true and of found classes.
        ignore: Pixels that do not count, of the same shape.

    Returns:
        Counts of that shape, int64, truth in rows.
    """
    rows, columns = shape
    if ignore is not None:
        found, truth = found[~ignore], truth[~ignore]
    counts = torch.zeros(rows * columns, dtype=torch.int64, device=found.device)
    for found_part, truth_part in zip(found.flatten().split(CHUNK), truth.flatten().split(CHUNK), strict=True):
        cells = truth_part.int() * columns + found_part.int()
        counts += torch.bincount(cells, minlength=rows * columns)
    return counts.reshape(rows, columns)


def iou_of_classes(counts: Tensor) -> Tensor:
    """Return intersection over union of each class; 1 for a class that neither occurs nor is found.

    Args:
        counts: Confusion ``(..., classes, classes)``.

    Returns:
        IoU ``(..., classes)``, float64.
    """
    counts = counts.cpu().double()
    both = counts.diagonal(dim1=-2, dim2=-1)
    union = counts.sum(-2) + counts.sum(-1) - both
    return torch.where(union > 0, both / union.clamp(min=1), 1.0)


def f1_of_counts(counts: Tensor) -> Tensor:
    """Return the F1 score of class 1 from a confusion ``(2, 2)``: 0 if nothing was to be found, NaN without counts."""
    counts = counts.cpu().double()
    errors = counts[0, 1] + counts[1, 0]
    score = 2 * counts[1, 1] / (2 * counts[1, 1] + errors).clamp(min=1)
    return torch.where(counts.sum() > 0, score, torch.nan)
