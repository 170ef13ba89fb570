"""One evaluator for both tasks: the table at the end of a test shows what its data can tell."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from anomalib.metrics import AUROC, Evaluator, F1Score
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from rich.console import Console

from anomalib_sofs.batches import AnyBatch

from .aupro import NativeAUPRO
from .binned_auroc import BinnedAUROC
from .class_confusion import ClassConfusion, class_of
from .class_report import print_results, write_results
from .episode_iou import EpisodeIoU


class SofsEvaluator(Evaluator):
    """IoU metrics for episodes; anomalib's image and pixel metrics, with AUPRO, for everything else.

    AUROC needs both normal and defective examples: where the data has only one kind, the row is left out. A stored
    support set of several classes adds their IoU, and a confusion matrix that is printed and written to
    ``classes.json`` in the run's folder; the true class of an image is the name of the folder that it lies in.
    """

    def __init__(self) -> None:
        super().__init__()
        self.image_auroc = AUROC(fields=["pred_score", "gt_label"], prefix="image_", strict=False)
        self.image_f1 = F1Score(fields=["pred_label", "gt_label"], prefix="image_", strict=False)
        self.pixel_f1 = F1Score(fields=["pred_mask", "gt_mask"], prefix="pixel_", strict=False)
        self.pixel_auroc = AUROC(fields=["anomaly_map", "gt_mask"], prefix="pixel_", strict=False)
        self.pixel_aupro = NativeAUPRO(fields=["anomaly_map", "gt_mask"], prefix="pixel_", strict=False)
        self.binned_pixel_auroc = BinnedAUROC(fields=["anomaly_map", "gt_mask"], prefix="pixel_", strict=False)
        self.iou = EpisodeIoU([])
        self.episodic = False
        self.confusion: ClassConfusion | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose the metrics by the kind of data."""
        super().setup(trainer, pl_module, stage)
        datamodule = getattr(trainer, "datamodule", None)
        self.episodic = hasattr(datamodule, "class_names")
        names = {name for data in _evaluated(datamodule) for name in getattr(data, "class_names", [])}
        self.iou = EpisodeIoU(sorted(names)).to(pl_module.device)

    def _metrics(self) -> list[Any]:
        if self.episodic:
            return [self.image_auroc, self.image_f1, self.binned_pixel_auroc]
        return [self.image_auroc, self.image_f1, self.pixel_auroc, self.pixel_aupro, self.pixel_f1]

    def _update(self, trainer: Trainer, batch: AnyBatch, batch_idx: int) -> None:
        batch = _without_repeats(trainer, batch, batch_idx)
        if batch is None:
            return
        for metric in self._metrics():
            metric.update(batch)
        if not self.episodic:
            self._update_classes(batch)
            return
        rows = zip(batch.category, batch.defect_class, batch.counted, batch.pred_mask, batch.gt_mask, strict=True)
        for category, defect_class, counted, prediction, truth in rows:
            if counted:
                self.iou.update(f"{category}/{defect_class}", prediction, truth)

    def _update_classes(self, batch: AnyBatch) -> None:
        if self.confusion is None or batch.gt_mask is None:
            return
        masks = batch.mask_path or [None] * len(batch.image_path)
        for found, truth, *files in zip(batch.class_map, batch.gt_mask, masks, batch.image_path, strict=True):
            self.confusion.update(found, truth, class_of(files, self.confusion.classes))

    def _log(self, pl_module: LightningModule, prefix: str = "") -> None:
        values = {prefix + name: value for name, value in self.iou.compute().items()}
        self.iou = EpisodeIoU(self.iou.classes).to(pl_module.device)
        for metric in self._metrics():
            if metric.update_called and _defined(metric):
                values[prefix + metric.name] = metric.compute()
            metric.reset()
        pl_module.log_dict(values, rank_zero_only=False)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT | None,
        batch: AnyBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Measure a batch of episodes."""
        del pl_module, outputs, dataloader_idx
        # distances have no threshold before the first validation has ended: FAD has nothing to measure yet
        if self.episodic:
            batch.pred_mask = batch.anomaly_map > 0.5  # noqa: PLR2004
            batch.pred_label = batch.pred_score > 0.5  # noqa: PLR2004
            self._update(trainer, batch, batch_idx)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what episodes gave."""
        del trainer
        if self.episodic:
            self._log(pl_module, prefix="val_")

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask the model, which has its support set by now, for the classes."""
        del trainer
        model: Any = pl_module.model
        support = model.support
        several = not self.episodic and len(support) > 1
        self.confusion = ClassConfusion(support.names).to(pl_module.device) if several else None

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT | None,
        batch: AnyBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Measure a batch."""
        del pl_module, outputs, dataloader_idx
        self._update(trainer, batch, batch_idx)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log all metrics that are defined."""
        self._log(pl_module)
        results = self.confusion.compute() if self.confusion is not None else None
        if results is None:
            return
        for name, value in results.table().items():
            pl_module.log(name, value, rank_zero_only=False)
        if trainer.is_global_zero:
            console = Console()
            print_results(results, console)
            file = write_results(results, Path(trainer.default_root_dir))
            console.print(f"Classes: {file}", soft_wrap=True, highlight=False)


def _evaluated(datamodule: object) -> list[object]:
    return [getattr(datamodule, name) for name in ("val_data", "test_data") if hasattr(datamodule, name)]


def _without_repeats(trainer: Trainer, batch: AnyBatch, batch_idx: int) -> AnyBatch | None:
    """Drop what a distributed sampler repeats to give every process the same number of queries.

    Such a sampler deals indices out in turn and starts again at the end: the n-th query of this rank is query
    ``n * world_size + rank`` of all, and the repeats are the last rows of the last batch, which may be a short one.
    """
    loader = trainer.test_dataloaders if trainer.testing else trainer.val_dataloaders
    if trainer.world_size == 1 or loader is None:
        return batch
    numbers = torch.arange(len(batch.image)) + batch_idx * loader.batch_size
    count = int((numbers * trainer.world_size + trainer.global_rank < len(loader.dataset)).sum())
    if count == len(batch.image):
        return batch
    return _first_rows(batch, count) if count else None


def _first_rows(batch: AnyBatch, count: int) -> AnyBatch:
    """Return a batch of the first ``count`` images."""
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return type(batch)(**{name: None if value is None else value[:count] for name, value in values.items()})


def _defined(metric: Any) -> bool:  # noqa: ANN401
    """Tell whether both classes occur; an AUROC of one class is meaningless."""
    if not isinstance(metric, AUROC):
        return True
    if metric.thresholds is not None:
        counts = metric.confmat[0]
        return bool(counts[0].sum() > 0 and counts[1].sum() > 0)
    target = torch.cat(list(metric.target)) if isinstance(metric.target, list) else metric.target
    return bool(target.any() and not target.all())
