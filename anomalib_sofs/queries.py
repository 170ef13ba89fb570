"""Look through the images of a prediction before it starts: what cannot be read must not end it half-way."""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from anomalib.data import PredictDataset
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from PIL import Image
from rich.console import Console
from rich.progress import track

from anomalib_sofs.images import read_pixels
from anomalib_sofs.results.folder import is_results_folder
from anomalib_sofs.results.names import common_folder

logger = logging.getLogger(__name__)

MANY = 100  # files from which on a progress bar is shown
LISTED = 7  # files named in the last lines
MAC_FOLDER = "__MACOSX"


class Checked(NamedTuple):
    """Image files, sorted by what can be done with them."""

    images: list[Path]
    """Those to segment."""
    hidden: list[Path]
    """No images whatever their suffix: names that begin with a dot, and what macOS puts beside."""
    results: list[Path]
    """Pictures and masks that earlier runs have written."""
    skipped: list[tuple[Path, str]]
    """Those that cannot be read, and why."""


def check_queries(files: Sequence[Path]) -> Checked:
    """Decide which files of a list are images that can be segmented.

    Each is decoded as far as it takes to know: 10 to 100 ms for 12 megapixels, several at a time.

    Args:
        files: Files with the suffix of an image.
    """
    common = common_folder(files) if files else Path()
    images: list[Path] = []
    hidden: list[Path] = []
    results: list[Path] = []
    ours = cache(is_results_folder)
    for file in files:
        if any(part.startswith(".") or part == MAC_FOLDER for part in file.absolute().relative_to(common).parts):
            hidden.append(file)
        elif any(ours(folder) for folder in file.absolute().parents):
            results.append(file)
        else:
            images.append(file)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        found = pool.map(_fault, images)
        reasons = list(track(found, "Checking images", len(images), transient=True, disable=len(images) < MANY))
    return Checked(
        images=[file for file, reason in zip(images, reasons, strict=True) if not reason],
        hidden=hidden,
        results=results,
        skipped=[(file, reason) for file, reason in zip(images, reasons, strict=True) if reason],
    )


def _fault(file: Path) -> str:
    """Say why a file cannot be segmented; empty if it can."""
    try:
        with Image.open(file) as image:
            if image.mode[0] in "IF":
                return _fault_of_values(file)
            if image.format == "PNG":
                image.verify()  # reads every chunk and its checksum
            else:
                image.draft("L", (image.width // 8, image.height // 8))  # JPEG: all the data, but few of the pixels
                image.load()
    except Image.DecompressionBombError as error:  # refused by anomalib's reader whatever ours does
        return f"{file}: {error} Cut it into smaller images."
    except Exception as error:  # noqa: BLE001 - a broken file raises anything
        return _fault_of_values(file, error)
    return ""


def _fault_of_values(file: Path, error: Exception | None = None) -> str:
    """Read a file as it is read later; that says best what is wrong with it."""
    try:
        if not bool(np.isfinite(read_pixels(file)).all()):
            return f"{file} holds values that are not numbers (NaN or infinity). Save it again without them."
    except Exception as wrong:  # noqa: BLE001
        return str(wrong) if str(file) in str(wrong) else f"{file} cannot be read ({wrong or error!r})."
    return ""


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
                _report(checked)
            if not checked.images:
                raise ValueError(_nothing_left(checked))
            data.image_filenames = checked.images

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Say last what was skipped; as a command, end with exit code 1."""
        del pl_module
        if stage != "predict" or not self.skipped:
            return
        summary = [f"{len(self.skipped)} of {self._count} images could not be read and have no results:"]
        summary += [f"  {reason}" for _, reason in self.skipped[:LISTED]]
        if len(self.skipped) > LISTED:
            summary.append(f"  ... and {len(self.skipped) - LISTED} more, named above.")
        if not _is_command(trainer):
            logger.warning("\n".join(summary))
            return
        if trainer.is_global_zero:
            Console(stderr=True).print("\n".join(summary), soft_wrap=True, highlight=False, markup=False)
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


def _report(checked: Checked) -> None:
    if checked.hidden:
        logger.warning(
            "%d file(s) are no images (%s%s) and were left out.",
            len(checked.hidden),
            checked.hidden[0],
            ", ..." if len(checked.hidden) > 1 else "",
        )
    if checked.results:
        logger.warning(
            "%d file(s) are results of earlier runs (%s%s) and were left out.",
            len(checked.results),
            checked.results[0],
            ", ..." if len(checked.results) > 1 else "",
        )
    for _, reason in checked.skipped:
        logger.warning("Skipped: %s", reason)


def _nothing_left(checked: Checked) -> str:
    found = [
        f"{len(files)} {what} ({files[0]}{', ...' if len(files) > 1 else ''})"
        for files, what in (
            (checked.hidden, "hidden or of macOS"),
            (checked.results, "results of earlier runs"),
            ([file for file, _ in checked.skipped], "not readable"),
        )
        if files
    ]
    return f"There is no image to segment. Files found: {', '.join(found)}. Name a folder of images."
