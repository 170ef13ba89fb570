"""What a run is given by others: its data and its limits; both are checked and never changed."""

import logging
from pathlib import Path
from typing import Any

from anomalib.data import MPDD, VAD, AnomalibDataModule, MVTecAD
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, Timer
from lightning.pytorch.cli import SaveConfigCallback

from anomalib_sofs.images import image_files, image_size

from .equal_sizes import check_equal_sizes

logger = logging.getLogger(__name__)

UNSET_EPOCHS = 1000
"""What Lightning's Trainer takes for ``max_epochs`` where no limit at all was given."""
PNG_ONLY = (MVTecAD, MPDD, VAD)
"""Datamodules of anomalib for MVTec AD's layout that read PNG files only."""
MUCH = 2**30
"""Bytes of one batch of images from which its size is mentioned."""


def epochs_left_to_us(trainer: Trainer, epochs: int | None) -> int | None:
    """Return after how many epochs we end the training ourselves: only where the user gave the trainer no limit.

    Lightning then takes 1000 epochs. A user's own 1000 looks the same, and only the command line keeps what was given.

    Args:
        trainer: The trainer of a fit.
        epochs: The model's argument.

    Returns:
        ``epochs``, or ``None`` where the trainer has a limit of its own.
    """
    limited = trainer.max_epochs != UNSET_EPOCHS or trainer.max_steps >= 0 or has_timer(trainer)
    if limited or epochs is None:
        return None
    config = saved_config(trainer)
    return epochs if config is None or config.get("trainer.max_epochs") is None else None


def saved_config(trainer: Trainer) -> Any:
    """Return the configuration that the command line was given and saves, ``None`` in Python."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next((callback.config for callback in callbacks if isinstance(callback, SaveConfigCallback)), None)


def announce_end(trainer: Trainer, epochs: int) -> None:
    """Say that we end the training, since Lightning has just said 1000 epochs."""
    if saved_config(trainer) is not None:
        logger.info("No limit was given: training ends after %d epochs (--model.epochs).", epochs)
        return
    logger.warning(
        "max_epochs is %d, as Lightning takes it where nothing is given, too: training ends after %d epochs, as "
        "Sofs(epochs=%d) says. Sofs(epochs=None) leaves the end to the trainer.",
        UNSET_EPOCHS,
        epochs,
        epochs,
    )


def has_timer(trainer: Trainer) -> bool:
    """Tell whether ``max_time`` limits the training."""
    return any(isinstance(callback, Timer) for callback in trainer.callbacks)  # type: ignore[attr-defined]


def refuse_unread_suffixes(datamodule: Any) -> None:
    """Refuse a stock datamodule whose folder holds images, but none that it reads.

    Raises:
        ValueError: Naming the datamodule that reads them.
    """
    if not isinstance(datamodule, PNG_ONLY) or type(datamodule) not in PNG_ONLY:
        return
    category = Path(datamodule.root) / datamodule.category
    files = [
        file
        for folder in category.glob("t*/*")
        if folder.parent.name in {"train", "test"}
        for file in image_files(folder)
    ]
    if files and not any(file.suffix in {".png", ".PNG"} for file in files):
        found = ", ".join(sorted({file.suffix for file in files}))
        msg = (
            f"{category} holds {len(files)} images ({found}), and {datamodule.name} reads PNG files only. "
            "MVTecLike reads every suffix: --data MVTecLike with the same root and category."
        )
        raise ValueError(msg)


def check_data(datamodule: Any, stage: str) -> None:
    """Check before the run that no image must be resized to fit into a batch.

    Args:
        datamodule: A stock datamodule, set up; one with a collate function of the user's own is left to him.
        stage: Lightning's name of the run's stage.

    Raises:
        ValueError: If images of different sizes are to share a batch, with the remedy.
    """
    data = getattr(datamodule, "val_data" if stage in {"fit", "validate"} else "test_data", None)
    if not isinstance(datamodule, AnomalibDataModule) or data is None or datamodule.external_collate_fn is not None:
        return
    if datamodule.eval_batch_size == 1 or getattr(data, "augmentations", None) is not None:
        return  # the user's own augmentations may bring all images to one size
    paths = [str(path) for path in data.samples["image_path"]]
    check_equal_sizes(paths)
    height, width = image_size(paths[0])
    images = min(datamodule.eval_batch_size, len(paths))
    if images * 12 * height * width > MUCH:  # three channels of float32
        logger.warning(
            "A batch of %d images of %d x %d pixels takes %.1f GB, and each of the %d loader processes prepares two. "
            "--data.eval_batch_size 1 takes one image at a time.",
            images, width, height, images * 12 * height * width / 1e9, datamodule.num_workers,
        )  # fmt: skip
