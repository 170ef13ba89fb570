"""Probabilities stay probabilities; distances from normality get anomalib's adaptive threshold and normalisation."""

from typing import Any

import torch
from anomalib.post_processing import PostProcessor
from lightning.pytorch import LightningModule, Trainer

from anomalib_sofs.batches import AnyBatch


class SofsPostProcessor(PostProcessor):
    """anomalib's post-processor, switched off where the model already gives calibrated probabilities.

    In few-shot segmentation (FSS) maps are probabilities: threshold 0.5, no min-max normalisation, nothing is learned
    from validation data. In few-shot anomaly detection (FAD) everything is anomalib's.
    """

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
        """Normalise and cut the maps, then give every pixel that is a defect its class.

        This is the one place that decides what is a defect: everything else reads ``pred_mask`` and ``class_map``
        ``(B, H, W)``, 0 where there is none, else the number of the most probable class, from 1 on.
        """
        super().post_process_batch(batch)
        best = getattr(batch, "best_class", None)
        if best is not None and batch.pred_mask is not None:
            batch.class_map = torch.where(batch.pred_mask, best, 0)
