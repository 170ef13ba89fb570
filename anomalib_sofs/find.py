"""The quiet way to predict: the same model, data reading and callbacks as `anomalib predict`, without its log lines."""

import pickle
import tempfile
from pathlib import Path
from typing import Any

from anomalib.data import PredictDataset
from anomalib.engine import Engine

from anomalib_sofs.model import Sofs
from anomalib_sofs.query_files import list_images
from anomalib_sofs.visualization.visualizer import SofsVisualizer

Skipped = list[tuple[Path, str]]


class ImageFiles(PredictDataset):
    """anomalib's dataset of image files, with a list of our own: anomalib refuses paths that are not ASCII.

    Args:
        files: Image files.
    """

    def __init__(self, files: list[Path]) -> None:
        # not super().__init__(path=...): that is what lists and checks the files; the rest of it are these attributes
        self.image_filenames = files
        self.transform = None
        self.image_size = (0, 0)


def make_model(support: Path | str | None, ckpt_path: Path | None, options: dict[str, Any]) -> Sofs:
    """Make the model, or load it: options and support set of the call go over those of the checkpoint.

    Raises:
        ValueError: If there is no support set, or the checkpoint holds more than data.
        FileNotFoundError: If a file or folder does not exist.
    """
    if ckpt_path is None:
        if support is None:
            msg = "No support set: name a support folder, or a checkpoint that carries one (--ckpt_path)."
            raise ValueError(msg)
        return Sofs(support=support, **options)
    if not ckpt_path.is_file():
        msg = f"The checkpoint {ckpt_path} does not exist."
        raise FileNotFoundError(msg)
    if support is not None:
        options["support"] = support
    try:
        model = Sofs.load_from_checkpoint(ckpt_path, map_location="cpu", **options)
    except (EOFError, pickle.UnpicklingError) as error:
        msg = (
            f"{ckpt_path} is no checkpoint, or holds more than tensors and plain values: weights_only=True refuses it."
        )
        raise ValueError(msg) from error
    if not isinstance(model, Sofs):
        msg = f"{ckpt_path} is no checkpoint of Sofs."
        raise TypeError(msg)
    return model


def find(
    support: Path | str | None,
    images: Path,
    out: Path,
    *,
    normal: bool = False,
    ckpt_path: Path | None = None,
    threshold: float | None = None,
    good: Path | None = None,
    false_alarms: float | None = None,
    witness: bool = False,
    roi: Path | None = None,
    least_area: int | None = None,
    accelerator: str = "auto",
) -> Skipped:
    """Find in images what a support set marks, and write the results.

    Args:
        support: Folder with the support set; ``None`` takes the one that the checkpoint carries.
        images: An image or a folder of images.
        out: Folder for the results.
        normal: Whether all support images are good parts.
        ckpt_path: Checkpoint of a trained model.
        threshold: See :class:`~anomalib_sofs.model.Sofs`.
        good: Likewise.
        false_alarms: Likewise.
        witness: Likewise.
        roi: Likewise.
        least_area: Likewise.
        accelerator: As Lightning names it.

    Returns:
        Images that were skipped, and why.

    Raises:
        OSError: If something does not exist or cannot be written.
        ValueError: If something cannot be read, or does not fit together.
        RuntimeError: If weights cannot be had.
    """
    files = list_images(images)
    options: dict[str, Any] = {"support_normal": True} if normal else {}
    given = {"threshold": threshold, "good": good, "false_alarms": false_alarms, "roi": roi, "least_area": least_area}
    if witness:
        options["witness"] = True
    options |= {name: value for name, value in given.items() if value is not None}
    model = make_model(support, ckpt_path, {**options, "visualizer": SofsVisualizer(out)})
    dataset = ImageFiles(files)
    with tempfile.TemporaryDirectory() as scratch:  # for what the engine itself would leave behind
        engine = Engine(default_root_dir=scratch, accelerator=accelerator, devices=1, logger=False)
        engine.predict(model=model, dataset=dataset, return_predictions=False)
    skipped = skipped_by(engine)
    if len(skipped) == len(files):
        msg = f"none of the {len(files)} images could be read; the first: {skipped[0][0]}: {skipped[0][1]}"
        raise ValueError(msg)
    return skipped


def skipped_by(engine: Engine) -> Skipped:
    """Collect what the run's callbacks skipped, each of them with its reason."""
    callbacks: list[Any] = engine.trainer.callbacks  # type: ignore[attr-defined]
    return [entry for callback in callbacks for entry in getattr(callback, "skipped", [])]
