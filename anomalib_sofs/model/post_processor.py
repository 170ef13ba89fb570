"""Probabilities stay probabilities; anomaly maps get anomalib's threshold where there is validation data."""

from typing import Any

from anomalib.post_processing import PostProcessor
from lightning.pytorch import LightningModule, Trainer

from anomalib_sofs.decision import decide
from anomalib_sofs.metrics.f1_threshold import F1Threshold


class SofsPostProcessor(PostProcessor):
    """anomalib's post-processor, switched off where the model already gives calibrated probabilities.

    In few-shot segmentation (FSS) maps are probabilities: threshold 0.5, no min-max normalisation, nothing is learned
    from validation data. In few-shot anomaly detection (FAD) anomalib's adaptive thresholds and normalisation come on
    top of what the supports tell, where there is validation data; that of pixels is learned in bounded memory.
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
        outputs: Any,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Learn threshold and range from anomaly maps; there is nothing to learn from probabilities."""
        if self.enable_normalization:
            super().on_validation_batch_end(trainer, pl_module, outputs, *args, **kwargs)

    def post_process_batch(self, batch: Any) -> None:
        """Normalise and cut the maps, then give every pixel that is a defect its class."""
        super().post_process_batch(batch)
        decide(batch, self)
