"""Helpers for tests of datasets: what a datamodule reads from a folder."""

from pathlib import Path

import numpy as np

from anomalib_sofs.data.datamodule import EpisodeDataModule
from anomalib_sofs.tensors import read_mask

KWARGS = {"num_workers": 0}


def rows_of(module: EpisodeDataModule, category: str) -> list[tuple[str, str]]:
    """File name and class of every sample of a category."""
    samples = module.samples_of(category)
    return sorted((Path(s.image_path).name, s.label) for s in samples.itertuples())


def mask_of(module: EpisodeDataModule, category: str, name: str, label: str) -> np.ndarray:
    """The mask of one sample."""
    samples = module.samples_of(category)
    (path,) = samples["mask_path"][samples["image_path"].str.endswith(name) & (samples["label"] == label)]
    return read_mask(path).numpy()
