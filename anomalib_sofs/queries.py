"""Look through the images of a prediction before it starts: what cannot be read must not end it half-way."""

import logging
from pathlib import Path
from typing import Any

from anomalib.data import PredictDataset
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from rich.console import Console

from .query_files import check_queries, nothing_left, report, summary

logger = logging.getLogger(__name__)


class QueryCheck(Callback):
    """Takes out of a list of files to predict what is no image, is a result of ours, or cannot be read.

    What cannot be read is named when it is found and in the last lines of the run. A run of the command line then ends
    with exit code 1, after all results were written; :meth:`Engine.predict` returns the predictions of the others.
    Datasets other than anomalib's list of files (``PredictDataset``) are left as they are.
    """

    def __init__(self) -> None:
        super().__init__()
        self.skipped: list[tuple[Path, str]] = []
        """Files that could not be read, and why."""
        self._count = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Look through the files.

        Raises:
            ValueError: If none is left.
        """
        del pl_module
        if stage != "predict":
            return
        self.skipped, self._count = [], 0
        for data in _listed_queries(trainer):
            checked = check_queries([Path(file) for file in data.image_filenames])
            self._count += len(checked.images) + len(checked.skipped)
            self.skipped += checked.skipped
            if trainer.is_global_zero:
                report(checked)
            if not checked.images:
                raise ValueError(nothing_left(checked))
            data.image_filenames = checked.images

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Say last what was skipped; as a command, end with exit code 1."""
        del pl_module
        if stage != "predict" or not self.skipped:
            return
        last = "\n".join(summary(self.skipped, self._count))
        if not _is_command(trainer):
            logger.warning(last)
            return
        if trainer.is_global_zero:
            Console(stderr=True).print(last, soft_wrap=True, highlight=False, markup=False)
        raise SystemExit(1)


def query_check(trainer: Trainer) -> QueryCheck:
    """Return the callback that looked through this trainer's queries."""
    return next(callback for callback in trainer.callbacks if isinstance(callback, QueryCheck))  # type: ignore[attr-defined]


def _listed_queries(trainer: Trainer) -> list[PredictDataset]:
    # Lightning asks for the data after this hook, and worker processes take their copy right then: there is no public
    # way to the loaders that predict() was called with in between
    source: Any = trainer.predict_loop._data_source.instance  # noqa: SLF001
    if source is None or isinstance(source, LightningModule) or source is trainer.datamodule:  # type: ignore[attr-defined]
        return []
    loaders = CombinedLoader(source, "sequential").flattened
    datasets = (getattr(loader, "dataset", None) for loader in loaders)
    return [data for data in datasets if isinstance(data, PredictDataset)]


def _is_command(trainer: Trainer) -> bool:
    """Tell whether a command line set up this run: it alone saves its configuration."""
    return any(isinstance(callback, SaveConfigCallback) for callback in trainer.callbacks)  # type: ignore[attr-defined]
