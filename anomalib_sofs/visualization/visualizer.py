"""Draw a picture of every query."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from anomalib.visualization import Visualizer
from lightning.pytorch import LightningModule, Trainer
from numpy.typing import NDArray

from anomalib_sofs.annotations.labels import DEFECT
from anomalib_sofs.batches import AnyBatch
from anomalib_sofs.model.backbone import IMAGE_MEAN, IMAGE_STD
from anomalib_sofs.results.callback import as_array, results_writer, say
from anomalib_sofs.results.files import write_png
from anomalib_sofs.results.folder import mark_new_folder
from anomalib_sofs.results.query_names import QueryNames, image_files

from .panels import (
    CLASS_COLOURS,
    TRUTH,
    Colour,
    Picture,
    heat,
    line_width,
    outline,
    point_out,
    side_by_side,
)

FAST = 1  # compression: photographs hardly get smaller with more of it


class SofsVisualizer(Visualizer):
    """Pictures at native resolution: support with its mask, query, truth, probability and prediction.

    ``test`` draws ``images/CATEGORY/CLASS/NAME.png``, ``predict`` draws ``NAME.png`` beside the other results (see
    :class:`~anomalib_sofs.results.callback.ResultsWriter`).

    Args:
        folder: Where ``images`` and ``predictions`` are made; ``None`` means the run's folder.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        super().__init__()
        self.folder = folder
        self._names = QueryNames()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give every image a place for its picture."""
        del pl_module
        self._names = QueryNames(image_files(trainer.test_dataloaders), trainer.global_rank, trainer.world_size)
        mark_new_folder(self._images(trainer))

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: AnyBatch,
        batch: AnyBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the pictures of a batch."""
        del pl_module, outputs, batch_idx, dataloader_idx
        _draw(batch, self._images(trainer), self._names.of(batch))

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: AnyBatch,
        batch: AnyBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the pictures of a batch beside its other results."""
        del pl_module, outputs, batch_idx, dataloader_idx
        writer = results_writer(trainer)
        if writer is not None:
            _draw(batch, writer.folder, writer.stems)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say where the pictures are."""
        del pl_module
        say(f"Pictures: {self._images(trainer)}")

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say where the pictures are."""
        del pl_module
        writer = results_writer(trainer)
        if writer is not None:
            say(f"Pictures: {writer.folder}")

    def _images(self, trainer: Trainer) -> Path:
        return Path(self.folder or trainer.default_root_dir) / "images"


def _draw(batch: AnyBatch, folder: Path, stems: Sequence[Path]) -> None:
    names = getattr(batch, "class_names", None) or [DEFECT]
    legend = [(f"{i} {name}", _colour(i)) for i, name in enumerate(names, start=1)] if len(names) > 1 else ""
    classes = as_array(batch.class_map)
    for row, stem in enumerate(stems):
        image = _picture(batch.image[row])
        panels = [*_support(batch, row), ("query", image), *_truth(batch, row, image)]
        score = np.nan_to_num(as_array(batch.anomaly_map[row])).clip(0, 1)
        panels.append(("distance from normal" if _normal(batch, row) else "probability", heat(image, score)))
        caption = f"prediction (score {min(max(float(batch.pred_score[row]), 0), 1):.2f})"
        panels.append((caption, _prediction(image, classes[row].astype(np.int64))))
        place = folder / stem
        write_png(side_by_side(panels, legend), place.with_name(f"{place.name}.png"), compression=FAST)


def _support(batch: AnyBatch, row: int) -> list[tuple[str, Picture]]:
    previews = getattr(batch, "support_previews", None)
    if previews is None or previews[row] is None:
        return []
    labels = batch.support_records[row]["labels"]
    caption = f"support ({labels[0]})" if labels else "support"
    return [(caption, previews[row].permute(1, 2, 0).cpu().numpy())]


def _normal(batch: AnyBatch, row: int) -> bool:
    records = getattr(batch, "support_records", None)
    return records is not None and records[row]["normal"]


def _truth(batch: AnyBatch, row: int, image: Picture) -> list[tuple[str, Picture]]:
    if getattr(batch, "gt_mask", None) is None:
        return []
    return [("truth", outline(image, as_array(batch.gt_mask[row]).astype(bool), TRUTH, line_width(image)))]


def _prediction(image: Picture, classes: NDArray[np.integer]) -> Picture:
    drawn, width, found = image, line_width(image), classes > 0
    for value in sorted(set(np.unique(classes).tolist()) - {0}):
        drawn = outline(drawn, classes == value, _colour(value), width, others=found)
        drawn = point_out(drawn, classes == value, _colour(value))
    return drawn


def _colour(number: int) -> Colour:
    return CLASS_COLOURS[(number - 1) % len(CLASS_COLOURS)]


def _picture(image: torch.Tensor) -> Picture:
    """Undo the normalisation of an image ``(3, H, W)``: what is drawn is what the model has seen."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGE_MEAN, IMAGE_STD))
    seen = (image.detach().float().cpu() * std + mean).clamp(0, 1)
    return (seen * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
