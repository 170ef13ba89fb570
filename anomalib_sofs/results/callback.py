"""Write the results of every prediction, whether or not pictures are drawn."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from numpy.typing import NDArray
from rich.console import Console

from anomalib_sofs.batches import AnyBatch

from .coco_file import clear_drafts, write_coco
from .files import UnwritableError
from .folder import ResultsFolder
from .names import common_folder
from .query_names import QueryNames, image_files
from .writer import Result, Writer

logger = logging.getLogger(__name__)

PREDICTIONS = "predictions"


class ResultsWriter(Callback):
    """Writes masks, maps, JSON, LabelMe files and one COCO file below ``predictions/``.

    The folder is this run's alone, see :mod:`.folder`; files lie in it like the images do in theirs, see
    :func:`.names.result_stems` and :class:`.writer.Writer`.

    Args:
        folder: Where to make ``predictions``; ``None`` means the run's folder.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        super().__init__()
        self.root = folder
        self.folder = Path()
        """Folder of this run's results."""
        self.stems: list[Path] = []
        """Places of the results of the batch at hand, below the folder."""
        self._names = QueryNames()
        self._writer = Writer(Path(), None)
        self._reserved: ResultsFolder | None = None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give every image a place for its results, in a folder that no other run writes to."""
        del pl_module
        files = image_files(trainer.predict_dataloaders)
        self._names = QueryNames(files, trainer.global_rank, trainer.world_size)
        if trainer.is_global_zero:
            self._reserved = ResultsFolder.reserve(
                Path(self.root or trainer.default_root_dir) / PREDICTIONS, self._names.stems
            )
            clear_drafts(self._reserved.path)
        self.folder = trainer.strategy.broadcast(self._reserved.path if self._reserved else Path())
        self._writer = Writer(self.folder, common_folder(files) if files else None, trainer.global_rank)

    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: AnyBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Give the queries of a batch their places."""
        del trainer, pl_module, batch_idx, dataloader_idx
        self.stems = self._names.of(batch)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: AnyBatch,
        batch: AnyBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the results of a batch."""
        del trainer, pl_module, outputs, batch_idx, dataloader_idx
        classes = as_array(batch.class_map)
        probability = as_array(batch.anomaly_map)
        records = getattr(batch, "support_records", None)
        for row, stem in enumerate(self.stems):
            path = batch.image_path[row] if getattr(batch, "image_path", None) else None
            result = Result(
                image=Path(path) if path else None,
                probability=probability[row],
                classes=classes[row].astype(np.int64),
                score=float(batch.pred_score[row]),
                threshold=batch.threshold,
                names=getattr(batch, "class_names", None) or [f"class_{i + 1}" for i in range(int(classes[row].max()))],
                support=dict(records[row]) if records else {},
            )
            self._writer.write(result, stem)
        if self.folder.is_dir() and self._reserved is not None:
            self._reserved.beat()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Join what all processes have found in one COCO file and say where everything is."""
        del pl_module
        trainer.strategy.barrier("results")
        self._finish()
        say(f"Masks, maps, regions, COCO and LabelMe files: {self.folder}")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Keep what was found before the run was broken off."""
        del trainer, pl_module, exception
        try:
            self._finish()
        except UnwritableError:
            logger.warning("%s could not be written.", self.folder / "coco.json")

    def _finish(self) -> None:
        if self._reserved is None:
            return
        reserved, self._reserved = self._reserved, None
        try:
            write_coco(reserved.path)
            reserved.beat()
        finally:
            reserved.release()


def results_writer(trainer: Trainer) -> ResultsWriter | None:
    """Return the callback that writes this run's results."""
    return next((callback for callback in trainer.callbacks if isinstance(callback, ResultsWriter)), None)  # type: ignore[attr-defined]


def as_array(tensor: Any) -> NDArray[Any]:  # noqa: ANN401
    """Return a tensor on any device as an array; half precision becomes single."""
    return tensor.detach().float().cpu().numpy()


@rank_zero_only
def say(text: str) -> None:
    """Print a line as it is: a path must survive copying."""
    Console().print(text, soft_wrap=True, highlight=False, markup=False)
