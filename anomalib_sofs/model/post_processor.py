"""Probabilities stay probabilities; distances from normality get anomalib's adaptive threshold and normalisation."""

from typing import Any

import torch
from anomalib.post_processing import PostProcessor
from lightning.pytorch import LightningModule, Trainer

from anomalib_sofs.batches import AnyBatch
from anomalib_sofs.metrics.f1_threshold import F1Threshold


class SofsPostProcessor(PostProcessor):
    """anomalib's post-processor, switched off where the model already gives calibrated probabilities.

    In few-shot segmentation (FSS) maps are probabilities: threshold 0.5, no min-max normalisation, nothing is learned
    from validation data. In few-shot anomaly detection (FAD) everything is anomalib's.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # anomalib's base class offers no other way to choose the metric; its own keeps every pixel of the validation
        self._pixel_threshold_metric: Any = F1Threshold(fields=["anomaly_map", "gt_mask"], strict=False)

    def use_probabilities(self, *, probabilities: bool) -> None:
        """Choose between FSS (``True``) and FAD."""
        self.enable_normalization = not probabilities

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: AnyBatch,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Learn threshold and range from distances; there is nothing to learn from probabilities."""
        if self.enable_normalization:
            super().on_validation_batch_end(trainer, pl_module, outputs, *args, **kwargs)

    def post_process_batch(self, batch: AnyBatch) -> None:
        """Normalise and cut the maps, then give every pixel that is a defect its class."""
        super().post_process_batch(batch)
        decide(batch, self)


def decide(batch: AnyBatch, post_processor: object = None) -> None:
    """Decide what is a defect, where that has not been done, without normalising anything.

    This is the one place that does so: everything else reads ``pred_label``, ``pred_mask`` and ``class_map``
    ``(B, H, W)``, 0 where there is no defect, else the number of the most probable class, from 1 on.

    Args:
        batch: Probabilities, or distances after normalisation. Distances that were not normalised have no threshold.
        post_processor: Whose sensitivities count; without one, a defect is more probable than not.
    """
    rule = post_processor if isinstance(post_processor, PostProcessor) else PostProcessor()
    if rule.enable_thresholding:
        rule.threshold_batch(batch)
    best = getattr(batch, "best_class", None)
    if best is not None and batch.pred_mask is not None:
        batch.class_map = torch.where(batch.pred_mask, best, 0)
