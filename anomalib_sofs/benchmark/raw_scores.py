"""What a model says about every test image, as it says it."""

import statistics
import time
from typing import Any

import numpy as np
import torch
from anomalib.data import ImageBatch, InferenceBatch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from rich.progress import Progress, TaskID
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs.annotations.labels import IGNORE
from anomalib_sofs.images import image_size
from anomalib_sofs.tensors import read_mask

from .scores import auroc, best_decisions, f1, good_called_defective, pixel_scores

SUPPORT, TEST_IMAGES = "support", "test images"
"""Where the threshold behind the decisions comes from."""


class RawScores(Callback):
    """Collects image scores, anomaly maps at the image's own size, the model's decisions, and the time of each query.

    It comes before the post-processor, so that scores are not clipped.

    Args:
        masks: Masks of each defective image, by its file.
        progress: Where progress is shown.
        title: What is shown there.
    """

    def __init__(self, masks: dict[str, list[str]], progress: Progress, title: str) -> None:
        self.masks = masks
        self.progress = progress
        self.title = title
        self.scores: list[float] = []
        self.defect: list[bool] = []
        self.found: list[bool] = []
        self.maps: list[NDArray[np.floating]] = []
        self.truth: list[NDArray[np.uint8]] = []
        self.seconds: list[float] = []
        self.task: TaskID | None = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the progress bar."""
        del pl_module
        self.task = self.progress.add_task(self.title, total=sum(int(count) for count in trainer.num_test_batches))

    def on_test_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: ImageBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Start the clock."""
        del trainer, pl_module, batch, batch_idx, dataloader_idx
        self.started = time.perf_counter()

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: ImageBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop the clock and keep the results; models that resize get their maps enlarged to the image."""
        self.seconds.append(time.perf_counter() - self.started)  # one image per batch
        del batch, trainer, batch_idx, dataloader_idx
        post_processor: Any = pl_module.post_processor
        if post_processor is not None:
            decided = post_processor(InferenceBatch(pred_score=outputs.pred_score, anomaly_map=outputs.anomaly_map))
            self.found += decided.pred_label.flatten().tolist()
        for row, path in enumerate(outputs.image_path):
            size = image_size(path)
            anomaly_map = outputs.anomaly_map[row].float().cpu().reshape(1, 1, *outputs.anomaly_map.shape[-2:])
            native = F.interpolate(anomaly_map, size=size, mode="bilinear", align_corners=False)
            self.scores.append(float(outputs.pred_score[row]))
            self.defect.append(path in self.masks)
            self.maps.append(native[0, 0].numpy())
            self.truth.append(_truth(self.masks.get(path, []), size))
        if self.task is not None:
            self.progress.advance(self.task)

    def result(self) -> dict[str, Any]:
        """Compare with the truth.

        ``f1`` and ``good_called_defective`` are those of the model's own decisions. anomalib's models learn theirs from
        validation images, by default the test images themselves: ``f1`` is the best possible one, and ``f1_threshold``
        says so.

        Raises:
            ValueError: If a score is not a number.
        """
        scores, defect = np.array(self.scores), np.array(self.defect)
        if not (np.isfinite(scores).all() and all(np.isfinite(values).all() for values in self.maps)):
            msg = "its scores are not numbers"
            raise ValueError(msg)
        best = best_decisions(scores, defect)
        found = np.array(self.found, dtype=bool) if self.found else best
        return {
            "image_auroc": auroc(scores, defect),
            **pixel_scores(self.maps, self.truth),
            "f1": None if found is None else f1(found, defect),
            "f1_threshold": SUPPORT if self.found else TEST_IMAGES,
            "f1_best": None if best is None else f1(best, defect),
            "good_called_defective": None if found is None else good_called_defective(found, defect),
            "queries": len(scores),
            "seconds_per_image": statistics.median(self.seconds),
        }


def _truth(masks: list[str], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Join the masks of an image, in ``{0, 1, IGNORE}``; a pixel that any of them marks is defect."""
    truth = torch.zeros(size, dtype=torch.uint8)
    for mask in map(read_mask, masks):
        truth = torch.where((mask == IGNORE) & (truth == 0), IGNORE, torch.where(mask == 1, 1, truth)).to(torch.uint8)
    return truth.numpy()
