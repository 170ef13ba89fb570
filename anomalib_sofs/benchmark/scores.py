"""AUROC and AUPRO from raw scores of any range.

torchmetrics sends scores outside of [0, 1] through a sigmoid, which saturates: distances of 20 and 30 become one value.
Only the order of scores matters here, so they are sorted as they are.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

FPR_LIMIT = 0.3  # the usual limit of the PRO curve (Bergmann et al. 2020), and anomalib's

Scores = NDArray[np.floating]
Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


def curve(scores: Scores, gains: Scores, costs: Scores) -> Curve:
    """Accumulate gains against costs from the highest score down; equal scores are one step.

    Args:
        scores: ``(N,)``, descending.
        gains: What finding each element is worth ``(N,)``.
        costs: What it costs ``(N,)``.

    Returns:
        Accumulated costs and gains, both starting at 0.
    """
    last = np.append(scores[1:] != scores[:-1], True)
    cost, gain = (np.append(0.0, np.cumsum(values)[last]) for values in (costs, gains))
    return cost, gain


def auroc(scores: Scores, defect: NDArray[np.bool_]) -> float | None:
    """Return the area under the ROC curve of scores ``(N,)``; ``None`` unless both kinds occur."""
    if defect.all() or not defect.any():
        return None
    order = np.argsort(-scores, kind="stable")
    defect = defect[order]
    fpr, tpr = curve(scores[order], defect / defect.sum(), ~defect / (~defect).sum())
    return float(np.trapezoid(tpr, fpr))


def average_precision(scores: Scores, defect: NDArray[np.bool_]) -> float:
    """Return the average precision of scores ``(N,)``: mean precision over the recall that each step adds."""
    order = np.argsort(-scores, kind="stable")
    defect = defect[order].astype(bool)
    false, true = curve(scores[order], defect.astype(float), (~defect).astype(float))
    return float((np.diff(true) * (true / np.maximum(true + false, 1))[1:]).sum() / max(defect.sum(), 1))


def pixel_scores(maps: Sequence[Scores], masks: Sequence[NDArray[np.bool_]]) -> dict[str, float | None]:
    """Compare anomaly maps with masks over all pixels of all images.

    Args:
        maps: One ``(H, W)`` per image, each of its own size.
        masks: Likewise.

    Returns:
        ``pixel_auroc`` and ``aupro`` (mean overlap of the defect's regions, 8-connected, up to :data:`FPR_LIMIT`).
    """
    pixels = np.concatenate([values.ravel() for values in maps])
    defect = np.concatenate([mask.ravel() for mask in masks])
    if defect.all() or not defect.any():
        return {"pixel_auroc": None, "aupro": None}
    shares, regions = [], 0
    for mask in masks:
        labels = label(mask, connectivity=2).ravel()
        sizes = np.bincount(labels)
        regions += len(sizes) - 1
        shares.append(np.where(labels > 0, 1 / np.maximum(sizes, 1)[labels], 0.0))
    overlap = np.concatenate(shares) / regions
    order = np.argsort(-pixels, kind="stable")  # once for both curves: sorting is what takes the time
    pixels, defect, overlap = pixels[order], defect[order], overlap[order]
    fpr, tpr = curve(pixels, defect / defect.sum(), ~defect / (~defect).sum())
    _, pro = curve(pixels, overlap, ~defect / (~defect).sum())
    return {"pixel_auroc": float(np.trapezoid(tpr, fpr)), "aupro": _area_up_to(fpr, pro, FPR_LIMIT)}


def _area_up_to(x: NDArray[np.float64], y: NDArray[np.float64], limit: float) -> float:
    """Return the area under a curve up to a limit on x, as a share of that limit."""
    end = float(np.interp(limit, x, y))
    inside = x <= limit
    return float(np.trapezoid(np.append(y[inside], end), np.append(x[inside], limit)) / limit)
