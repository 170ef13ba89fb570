"""The one place that decides what is a defect."""

from typing import Any

import torch
from anomalib.post_processing import PostProcessor


def decide(batch: Any, post_processor: object = None) -> None:
    """Decide what is a defect, where that has not been done, without normalising anything.

    Everything else reads ``pred_label``, ``pred_mask`` and ``class_map`` ``(B, H, W)``, 0 where there is no defect,
    else the number of the most probable class, from 1 on; ``threshold`` is the value of the maps above which a pixel
    is one.

    Args:
        batch: Maps and scores in [0, 1].
        post_processor: Whose sensitivities count; without one, a defect is more probable than not.
    """
    rule = post_processor if isinstance(post_processor, PostProcessor) else PostProcessor()
    if rule.enable_thresholding:
        rule.threshold_batch(batch)
    batch.threshold = float(rule.normalized_pixel_threshold)
    if getattr(batch, "class_map", None) is not None:
        return
    # without thresholding there is no pred_mask; results and pictures show what there would be
    mask = batch.anomaly_map > batch.threshold if batch.pred_mask is None else batch.pred_mask
    best = getattr(batch, "best_class", None)
    batch.class_map = torch.where(mask, 1 if best is None else best, 0)
