"""AUROC, AUPRO and F1 from raw scores of any range, by scikit-learn.

torchmetrics sends scores outside of [0, 1] through a sigmoid, which saturates: distances of 20 and 30 become one value.
scikit-learn sorts scores as they are; 40 million pixels take it 26 s and 2.2 GB (one core).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label
from sklearn.metrics import auc, precision_recall_curve, roc_auc_score, roc_curve

from anomalib_sofs.annotations.labels import IGNORE

FPR_LIMIT = 0.3  # the usual limit of the PRO curve (Bergmann et al. 2020), and anomalib's

Scores = NDArray[np.floating]
Flags = NDArray[np.bool_]
Mask = NDArray[np.uint8]


def auroc(scores: Scores, defect: Flags) -> float | None:
    """Return the area under the ROC curve of scores ``(N,)``; ``None`` unless both kinds occur."""
    if defect.all() or not defect.any():
        return None
    return float(roc_auc_score(defect, scores))


def f1(found: Flags, defect: Flags) -> float | None:
    """Return F1 of decisions ``(N,)``; ``None`` unless both kinds occur."""
    if defect.all() or not defect.any():
        return None
    return float(2 * (found & defect).sum() / (found.sum() + defect.sum()))


def best_decisions(scores: Scores, defect: Flags) -> Flags | None:
    """Return the decisions ``(N,)`` whose F1 is the best that scores ``(N,)`` allow; ``None`` unless both kinds occur.

    Of several such thresholds it is the lowest, as anomalib chooses.
    """
    if defect.all() or not defect.any():
        return None
    precision, recall, thresholds = precision_recall_curve(defect, scores)
    f1_of = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    return scores >= thresholds[f1_of[:-1].argmax()]


def good_called_defective(found: Flags, defect: Flags) -> float | None:
    """Return the share of the good examples that decisions ``(N,)`` call defective; ``None`` without good ones."""
    return None if defect.all() else float(found[~defect].mean())


def pixel_scores(maps: Sequence[Scores], masks: Sequence[Mask]) -> dict[str, float | None]:
    """Compare anomaly maps with masks over all pixels of all images; ignored pixels count for nothing.

    Args:
        maps: One ``(H, W)`` per image, each of its own size.
        masks: Likewise, in ``{0, 1, IGNORE}``.

    Returns:
        ``pixel_auroc`` and ``aupro``; ``None`` unless there are both defective and other pixels.
    """
    counted = np.concatenate([mask.ravel() != IGNORE for mask in masks])
    pixels = np.concatenate([values.ravel() for values in maps])[counted]
    defect = np.concatenate([mask.ravel() == 1 for mask in masks])[counted]
    if defect.all() or not defect.any():
        return {"pixel_auroc": None, "aupro": None}
    weights = np.concatenate([_weights(mask == 1) for mask in masks])[counted]
    return {"pixel_auroc": auroc(pixels, defect), "aupro": _aupro(pixels, defect, weights)}


def _aupro(pixels: Scores, defect: Flags, weights: Scores) -> float:
    """Return the area under the PRO curve, the mean overlap of the regions, up to :data:`FPR_LIMIT`.

    A region's overlap is the recall of its pixels, and their mean over the regions is the recall of all defective
    pixels, each weighed by one over the size of its region: the PRO curve is a ROC curve with weights.
    """
    fpr, pro, _ = roc_curve(defect, pixels, sample_weight=weights, drop_intermediate=False)
    inside = fpr <= FPR_LIMIT
    end = float(np.interp(FPR_LIMIT, fpr, pro))
    return float(auc(np.append(fpr[inside], FPR_LIMIT), np.append(pro[inside], end)) / FPR_LIMIT)


def _weights(mask: Flags) -> NDArray[np.float64]:
    """Return one over the size of its region, 8-connected, for defective pixels, 1 for all others ``(H * W,)``."""
    regions = label(mask, connectivity=2).ravel()
    sizes = np.bincount(regions)
    return np.where(regions > 0, 1 / np.maximum(sizes, 1)[regions], 1.0)
