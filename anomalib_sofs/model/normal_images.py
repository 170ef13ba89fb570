"""The support set of few-shot anomaly detection: normal training images of a stock datamodule."""

from typing import Any

import torch

from anomalib_sofs.arguments import SupportSelection
from anomalib_sofs.tensors import read_image

from .support import SupportSet


def normal_training_images(datamodule: Any, shot: int, selection: SupportSelection, seed: int) -> SupportSet:
    """Read the first (or drawn) normal training images of a stock datamodule.

    Args:
        datamodule: The datamodule of the run, ``None`` where there is none.
        shot: How many images.
        selection: ``"first"`` by name, or a ``"random"`` draw.
        seed: Of that draw.

    Raises:
        RuntimeError: If there is nothing to take images from.
        ValueError: If there are fewer.
    """
    train_data = getattr(datamodule, "train_data", None)
    if train_data is None:
        msg = (
            "No support set: pass support=FOLDER (image/ and mask/), load a checkpoint that carries one, or use a "
            "datamodule with normal training images."
        )
        raise RuntimeError(msg)
    samples = train_data.samples
    paths = sorted(samples[samples.label_index == 0].image_path.astype(str))
    if len(paths) < shot:
        msg = f"{len(paths)} normal training images, but shot is {shot}. Lower shot or add normal images."
        raise ValueError(msg)
    if selection == "random":
        generator = torch.Generator().manual_seed(seed)
        paths = sorted(paths[i] for i in torch.randperm(len(paths), generator=generator).tolist()[:shot])
    images = [read_image(path) for path in paths[:shot]]
    return SupportSet(images, [torch.zeros(i.shape[-2:]) for i in images], paths=paths[:shot])
