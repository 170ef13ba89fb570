"""One evaluator for both tasks: the table at the end of a test shows what its data can tell."""

import logging
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from anomalib.metrics import Evaluator
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from rich.console import Console
from torch import distributed, nn

from anomalib_sofs.decision import decide

from .aupro import AUPRO
from .auroc import AUROC, ImageAUROC
from .class_confusion import ClassConfusion, class_of
from .class_report import print_results, write_results
from .episode_iou import EpisodeIoU
from .f1_score import F1Score
from .repeats import new_rows

logger = logging.getLogger(__name__)

PER_IMAGE = (
    "pred_score", "pred_label", "gt_label", "anomaly_map", "pred_mask", "gt_mask", "ignore_mask", "class_map",
    "image_path", "mask_path", "support_records", "category", "defect_class", "counted",
)  # fmt: skip
"""What the metrics read of a batch; fields that are missing or ``None`` leave out the metrics that need them."""


class SofsEvaluator(Evaluator):
    """IoU metrics for episodes; anomalib's image and pixel metrics, with AUPRO, for everything else.

    AUROC and AUPRO need both normal and defective examples: where the data has only one kind, the row is left out, and
    so is what needs a field that the batches do not have. Pixels of ``batch.ignore_mask`` count for nothing. A stored
    support set of several classes adds their IoU, and a confusion matrix that is printed and written to
    ``classes.json`` in the run's folder; the true class of an image is the name of the folder that it lies in.

    Everything is read off the batch. All processes take part in every collective, whatever they have seen.
    """

    def __init__(self) -> None:
        super().__init__()
        # metrics live from setup to teardown: their histograms are no part of an exported model
        self.metrics = nn.ModuleDict()
        self.iou = EpisodeIoU([])
        self.confusion: ClassConfusion | None = None
        self.episodic = False
        self._seen = 0
        self._said: set[str] = set()

    # -- Lightning hooks -----------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose the metrics by the kind of data."""
        super().setup(trainer, pl_module, stage)
        datamodule = getattr(trainer, "datamodule", None)
        self.episodic = hasattr(datamodule, "class_names")
        names = {name for data in _evaluated(datamodule) for name in getattr(data, "class_names", [])}
        self.iou = EpisodeIoU(sorted(names)).to(pl_module.device)
        metrics = _metrics(episodic=self.episodic)
        self.metrics = nn.ModuleDict({metric.name: metric for metric in metrics}).to(pl_module.device)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Free the histograms."""
        del trainer, pl_module, stage
        self.metrics, self.iou, self.confusion = nn.ModuleDict(), EpisodeIoU([]), None

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Measure a batch of episodes."""
        del outputs
        # in anomaly detection the post-processor learns its threshold from these very batches: none to measure yet
        if self.episodic:
            decide(batch, pl_module.post_processor)
            self._update(_loader(trainer.val_dataloaders, dataloader_idx), batch, batch_idx)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what episodes gave."""
        del trainer
        if self.episodic:
            self._log(pl_module, prefix="val_")

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the classes of an earlier support set."""
        del trainer, pl_module
        self.confusion = None

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Measure a batch."""
        del outputs
        decide(batch, pl_module.post_processor)
        self._update(_loader(trainer.test_dataloaders, dataloader_idx), batch, batch_idx)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log all metrics that are defined."""
        self._log(pl_module)
        confusion, self.confusion = self._confusion_of_all(pl_module), None
        results = confusion.compute() if confusion is not None else None
        if results is None:
            return
        pl_module.log_dict(results.table(), rank_zero_only=False)
        if trainer.is_global_zero:
            console = Console()
            print_results(results, console)
            file = write_results(results, Path(trainer.default_root_dir))
            console.print(f"Classes: {file}", soft_wrap=True, highlight=False)

    # -- counting ------------------------------------------------------------------------------------------------

    def _update(self, loader: object, batch: Any, batch_idx: int) -> None:
        size = len(batch.image)
        self._seen = 0 if batch_idx == 0 else self._seen
        count = new_rows(loader, self._seen, size)
        self._seen += size
        names = getattr(batch, "class_names", None) or []
        if self.confusion is None and not self.episodic and len(names) > 1:
            self.confusion = ClassConfusion(names).to(batch.image.device)
        rows = _first_rows(batch, count)
        if count == 0:
            return
        self._say_what_is_missing(rows)
        metrics: list[Any] = list(self.metrics.values())
        for metric in metrics:
            metric.update(rows)
        if rows.gt_mask is not None and rows.pred_mask is not None:
            (self._update_episodes if self.episodic else self._update_classes)(rows)

    def _update_episodes(self, rows: SimpleNamespace) -> None:
        for i, counted in enumerate(rows.counted):
            if counted:
                name = f"{rows.category[i]}/{rows.defect_class[i]}"
                self.iou.update(name, rows.pred_mask[i], rows.gt_mask[i], _row(rows.ignore_mask, i))

    def _update_classes(self, rows: SimpleNamespace) -> None:
        if self.confusion is None or rows.class_map is None:
            return
        for i, (found, truth) in enumerate(zip(rows.class_map, rows.gt_mask, strict=True)):
            name = class_of([_row(rows.mask_path, i), _row(rows.image_path, i)], self.confusion.classes)
            self.confusion.update(found, truth, name, _row(rows.ignore_mask, i))

    # -- results -------------------------------------------------------------------------------------------------

    def _log(self, pl_module: LightningModule, prefix: str = "") -> None:
        values = self.iou.compute() if self.episodic else {}
        self.iou.reset()
        metrics: dict[str, Any] = dict(self.metrics.items())
        for name, metric in metrics.items():
            value = metric.compute()
            metric.reset()
            if not value.isnan():
                values[name] = value
        pl_module.log_dict({f"{prefix}{name}": value for name, value in values.items()}, rank_zero_only=False)

    def _confusion_of_all(self, pl_module: LightningModule) -> ClassConfusion | None:
        """Return this process's counts, all zero if another process has some and this one has seen nothing."""
        names = _of_any_process(self.confusion.classes if self.confusion is not None else None)
        if self.confusion is None and names is not None:
            return ClassConfusion(names).to(pl_module.device)
        return self.confusion

    def _say_what_is_missing(self, rows: SimpleNamespace) -> None:
        where = f"first at {_row(rows.image_path, 0) or 'a batch without image_path'}"
        if rows.gt_mask is None:
            self._say("truth", f"No pixel metric without a true mask ({where}).")
        if rows.pred_mask is None:
            self._say(
                "decision",
                f"No F1 score, no IoU: nothing decides what is a defect ({where}): the post-processor's "
                "enable_thresholding is False.",
            )
        if self.confusion is not None and rows.image_path is None and rows.mask_path is None:
            self._say(
                "class",
                "Batches without image_path and mask_path do not tell the class of a defect: it counts as one of the "
                "'other defects'. Use a datamodule that reads files, in folders with the names of the classes.",
            )

    def _say(self, subject: str, message: str) -> None:
        if subject not in self._said:
            logger.warning(message)
            self._said.add(subject)


def _metrics(*, episodic: bool) -> list[Any]:
    """Return the metrics of episodes besides their IoU, or of everything else."""
    metrics: list[Any] = [
        ImageAUROC(fields=["pred_score", "gt_label"], prefix="image_", strict=False),
        F1Score(fields=["pred_label", "gt_label"], prefix="image_", strict=False),
        AUROC(fields=["anomaly_map", "gt_mask"], prefix="pixel_", strict=False),
    ]
    if episodic:
        return metrics
    return [
        *metrics,
        AUPRO(fields=["anomaly_map", "gt_mask"], prefix="pixel_", strict=False),
        F1Score(fields=["pred_mask", "gt_mask"], prefix="pixel_", strict=False),
    ]


def _evaluated(datamodule: object) -> list[object]:
    return [getattr(datamodule, name) for name in ("val_data", "test_data") if hasattr(datamodule, name)]


def _loader(loaders: Any, number: int) -> object:
    return loaders[number] if isinstance(loaders, Sequence) else loaders


def _first_rows(batch: Any, count: int) -> SimpleNamespace:
    """Return what the metrics read of the first ``count`` images."""
    values = {name: getattr(batch, name, None) for name in PER_IMAGE}
    return SimpleNamespace(**{name: None if value is None else value[:count] for name, value in values.items()})


def _row(values: Any, number: int) -> Any:
    """Return one image's value of a field that may be missing."""
    return None if values is None else values[number]


def _of_any_process(value: list[str] | None) -> list[str] | None:
    """Return the value of the first process that has one."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    values: list[list[str] | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return next((one for one in values if one is not None), None)
