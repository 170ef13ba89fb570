"""Draw a picture of every query."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anomalib.visualization import Visualizer
from lightning.pytorch import LightningModule, Trainer
from numpy.typing import NDArray

from anomalib_sofs.annotations.labels import DEFECT
from anomalib_sofs.model.backbone import IMAGE_MEAN, IMAGE_STD
from anomalib_sofs.model.preview import part_around
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
    reduced,
    reduced_classes,
    shared_factor,
    side_by_side,
)

WHOLE = 0.6  # of an image that need not be shown apart
FAST = 1  # compression: photographs hardly get smaller with more of it


class SofsVisualizer(Visualizer):
    """Pictures of at most 4 megapixels: what was marked, the largest find, and the whole query with what was found.

    The first two are parts at native resolution; query, truth, probability and prediction are reduced where they have
    to be. Masks and maps beside the pictures are always native.

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
        outputs: Any,
        batch: Any,
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
        outputs: Any,
        batch: Any,
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


def _draw(batch: Any, folder: Path, stems: Sequence[Path]) -> None:
    names = getattr(batch, "class_names", None) or [DEFECT]
    legend = [(f"{i} {name}", _colour(i)) for i, name in enumerate(names, start=1)] if len(names) > 1 else ""
    classes = as_array(batch.class_map)
    for row, stem in enumerate(stems):
        panels = _panels(batch, row, classes[row].astype(np.int64))
        place = folder / stem
        write_png(side_by_side(panels, legend), place.with_name(f"{place.name}.png"), compression=FAST)


def _panels(batch: Any, row: int, classes: NDArray[np.integer]) -> list[tuple[str, Picture]]:
    """Draw what was marked and the largest find, both at native scale, then the whole image, as large as there is room.

    Lines and frames are drawn after an image was reduced, so that they stay as clear as on a small one.
    """
    image, score = _picture(batch.image[row]), np.nan_to_num(as_array(batch.anomaly_map[row])).clip(0, 1)
    closest = [*_support(batch, row), *_largest(batch, row, image, classes)]
    truth = None if getattr(batch, "gt_mask", None) is None else as_array(batch.gt_mask[row]).astype(np.uint8)
    taken = sum(picture.shape[0] * picture.shape[1] for _, picture in closest)
    factor = shared_factor(classes.shape, 3 if truth is None else 4, taken)
    small, found = reduced(image, factor), reduced_classes(classes, factor)
    panels = [*closest, ("query", small)]
    if truth is not None:
        panels.append(("truth", outline(small, reduced_classes(truth, factor) > 0, TRUTH, line_width(small))))
    title = "distance from normal" if _normal(batch, row) else "probability"
    panels.append((title, heat(small, reduced(score, factor))))
    caption = f"prediction (score {min(max(float(batch.pred_score[row]), 0), 1):.2f})"
    return [*panels, (caption, _prediction(small, found))]


def _support(batch: Any, row: int) -> list[tuple[str, Picture]]:
    previews = getattr(batch, "support_previews", None)
    if previews is None or previews[row] is None:
        return []
    labels = batch.support_records[row]["labels"]
    caption = f"support ({labels[0]})" if labels else "support"
    return [(caption, previews[row].permute(1, 2, 0).cpu().numpy())]


def _largest(batch: Any, row: int, image: Picture, classes: NDArray[np.integer]) -> list[tuple[str, Picture]]:
    """Cut out the largest find, as large a part as is shown of the support."""
    support = _support(batch, row)
    if not support or _normal(batch, row) or not classes.any():
        return []
    part = part_around(classes > 0, max(support[0][1].shape[:2]))
    if classes[part].size > WHOLE * classes.size:
        return []  # the query shows it as large
    return [("largest find", _outlined(image[part], classes[part], 1))]


def _normal(batch: Any, row: int) -> bool:
    records = getattr(batch, "support_records", None)
    return records is not None and records[row]["normal"]


def _prediction(image: Picture, classes: NDArray[np.integer]) -> Picture:
    drawn = _outlined(image, classes, line_width(image))
    for value in sorted(set(np.unique(classes).tolist()) - {0}):
        drawn = point_out(drawn, classes == value, _colour(value))
    return drawn


def _outlined(image: Picture, classes: NDArray[np.integer], width: int) -> Picture:
    for value in sorted(set(np.unique(classes).tolist()) - {0}):
        image = outline(image, classes == value, _colour(value), width, others=classes > 0)
    return image


def _colour(number: int) -> Colour:
    return CLASS_COLOURS[(number - 1) % len(CLASS_COLOURS)]


def _picture(image: torch.Tensor) -> Picture:
    """Undo the normalisation of an image ``(3, H, W)``: what is drawn is what the model has seen."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGE_MEAN, IMAGE_STD))
    seen = (image.detach().float().cpu() * std + mean).clamp(0, 1)
    return (seen * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
