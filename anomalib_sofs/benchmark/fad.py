"""Few-shot anomaly detection: every model through anomalib's Engine with the same k normal training images."""

import logging
import statistics
import tempfile
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anomalib.data import ImageBatch, MVTecAD
from anomalib.engine import Engine
from anomalib.models.components import AnomalibModule
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from numpy.typing import NDArray  # noqa: TC002
from rich.progress import Progress
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs.images import image_size
from anomalib_sofs.tensors import read_mask

from .categories import check_normal_images
from .peers import SOFS, TITLES, PeerUnavailableError, build, check_shots, go_offline_unless_reachable
from .scores import auroc, pixel_scores
from .timing import BackboneClock, say

logger = logging.getLogger(__name__)

SEED = 0  # of PatchCore's and PaDiM's random choices; the support is the first k images by name


class FewNormals(MVTecAD):
    """A category with its first ``shot`` normal training images only, by name.

    Args:
        root: Folder of categories.
        category: The category.
        shot: Normal training images.
        limit: Most test images per folder, the first by name; ``None`` for all.
    """

    def __init__(self, root: Path, category: str, shot: int, limit: int | None) -> None:
        super().__init__(root, category, train_batch_size=1, eval_batch_size=1, num_workers=0, seed=SEED)
        self.shot = shot
        self.limit = limit

    def _setup(self, _stage: str | None = None) -> None:
        super()._setup(_stage)
        train = self.train_data.samples
        by_name = sorted(train.index, key=lambda row: Path(train["image_path"][row]).name)
        self.train_data = self.train_data.subsample(by_name[: self.shot])
        if self.limit is not None:
            chosen = self.test_data.samples.groupby("label").head(self.limit).index
            self.test_data = self.test_data.subsample(sorted(chosen))


class RawScores(Callback):
    """Collects image scores, anomaly maps at the image's own size, and the time of each query.

    Args:
        progress: Where progress is shown.
        title: What is shown there.
    """

    def __init__(self, progress: Progress, title: str) -> None:
        self.progress = progress
        self.title = title
        self.scores: list[float] = []
        self.defect: list[bool] = []
        self.maps: list[NDArray[np.floating]] = []
        self.masks: list[NDArray[np.bool_]] = []
        self.seconds: list[float] = []

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
        outputs: Any,  # noqa: ANN401
        batch: ImageBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop the clock and keep the results; models that resize get their maps enlarged to the image."""
        self.seconds.append(time.perf_counter() - self.started)  # one image per batch
        del batch, trainer, pl_module, batch_idx, dataloader_idx
        for row, path in enumerate(outputs.image_path):
            mask_path = outputs.mask_path[row] if outputs.mask_path else None
            size = image_size(path)
            mask = read_mask(mask_path).numpy().astype(bool) if mask_path else np.zeros(size, dtype=bool)
            anomaly_map = outputs.anomaly_map[row].float().reshape(1, 1, *outputs.anomaly_map.shape[-2:])
            native = F.interpolate(anomaly_map, size=size, mode="bilinear", align_corners=False)
            self.scores.append(float(outputs.pred_score[row]))
            self.defect.append(bool(mask_path))
            self.maps.append(native[0, 0].numpy())
            self.masks.append(mask)
        self.progress.advance(self.task)

    def result(self) -> dict[str, Any]:
        """Compare with the truth.

        Raises:
            ValueError: If a score is not a number.
        """
        scores = np.array(self.scores)
        if not (np.isfinite(scores).all() and all(np.isfinite(values).all() for values in self.maps)):
            msg = "its scores are not numbers"
            raise ValueError(msg)
        return {
            "image_auroc": auroc(scores, np.array(self.defect)),
            **pixel_scores(self.maps, self.masks),
            "seconds_per_image": statistics.median(self.seconds),
        }


def run(arguments: Namespace, progress: Progress) -> list[dict[str, Any]]:
    """Run the benchmark.

    Args:
        arguments: See :func:`~anomalib_sofs.benchmark.arguments.parse`.
        progress: Where progress is shown.

    Returns:
        One record per category, method and number of shots; a model that could not run has ``error``.
    """
    check_normal_images(arguments.root, arguments.categories, max(arguments.shots))
    if {"anomalydino", "winclip"} & set(arguments.peers):
        go_offline_unless_reachable()
    clock = BackboneClock()
    records = []
    for category in arguments.categories:
        for name in [SOFS, *arguments.peers]:
            for shot in arguments.shots:
                title = TITLES.get(name, name)
                where = {"category": category, "method": title, "shot": shot, "seed": SEED}
                try:
                    check_shots(name, shot)
                    seed_everything(SEED, verbose=False)
                    model = build(name, shot, category)
                    data = FewNormals(arguments.root, category, shot, arguments.limit)
                    measured = measure(model, data, clock, progress, f"{category}, {title}, {shot} shot")
                except PeerUnavailableError as error:
                    measured = {"error": str(error)}
                except Exception as error:  # one peer must not cost the results of the others
                    logger.debug("%s failed", title, exc_info=True)
                    measured = {"error": f"failed ({type(error).__name__}: {' '.join(str(error).split())[:200]})"}
                records.append(where | measured)
                say(progress, f"{category}, {title}, {shot} shot: {measured.get('error') or _in_short(measured)}")
    return records


def _in_short(measured: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {measured[name]:.3f}" for name in ("image_auroc", "aupro") if measured[name] is not None)


def measure(
    model: AnomalibModule,
    data: FewNormals,
    clock: BackboneClock,
    progress: Progress,
    title: str,
) -> dict[str, Any]:
    """Fit and test one model.

    Args:
        model: Built by :func:`~anomalib_sofs.benchmark.peers.build`.
        data: Its support and test images.
        clock: Measures the time of a query in units of the bare backbone.
        progress: Where progress is shown.
        title: What is shown there.
    """
    recorder = RawScores(progress, title)
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(
            callbacks=[recorder],
            default_root_dir=folder,
            accelerator="cpu",
            devices=1,
            limit_val_batches=0,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        engine.fit(model, datamodule=data)
        engine.test(model, datamodule=data, verbose=False)
    model.eval()
    normalise = model.pre_processor or torch.nn.Identity()
    ratio = clock.ratio(lambda image: model.model(normalise(image)))
    return recorder.result() | {"backbone_ratio": ratio}
