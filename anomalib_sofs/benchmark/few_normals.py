"""A category for anomaly detection with few normal images: anomalib's datamodule over any layout."""

import random
from pathlib import Path

from anomalib.data import AnomalibDataModule, AnomalibDataset
from anomalib.data.utils import TestSplitMode, ValSplitMode
from pandas import DataFrame

from anomalib_sofs.annotations.labels import NORMAL
from anomalib_sofs.data.table import defects

from .categories import support_pool


def choose_support(table: DataFrame, category: str, shots: int, draw: int) -> list[str]:
    """Choose the support images of a category.

    Args:
        table: Its samples.
        category: Its name.
        shots: How many.
        draw: 0 takes the first by name, another number is the seed of a random draw.

    Returns:
        Their files.
    """
    files = sorted(support_pool(table)["image_path"], key=lambda path: (Path(path).name, path))
    if draw == 0:
        return files[:shots]
    return random.Random(f"{draw}/{category}").sample(files, shots)  # noqa: S311 - reproducible


class FewNormals(AnomalibDataModule):
    """A few chosen normal images to learn from, and all images of the test split.

    An image that shows several classes is tested once; all their masks together are its truth.

    Args:
        table: Samples of one category, see :func:`~anomalib_sofs.data.table.combine`.
        support: Files of the support images.
        limit: Most test images per class, the first by name; ``None`` for all.
        seed: For anomalib.
        batch: Most support images of a training step.
    """

    def __init__(self, table: DataFrame, support: list[str], limit: int | None, seed: int, batch: int = 1) -> None:
        super().__init__(
            train_batch_size=batch,
            eval_batch_size=1,
            num_workers=0,
            test_split_mode=TestSplitMode.FROM_DIR,
            val_split_mode=ValSplitMode.NONE,
            seed=seed,
        )
        self.support = support
        self._category = str(table["category"].iloc[0])
        tested = table[(table["split"] != "train") & ~table["image_path"].isin(support)]
        self.tested = tested if limit is None else tested.groupby("label").head(limit)
        self.masks: dict[str, list[str]] = {}
        for row in defects(table).itertuples():
            self.masks.setdefault(str(row.image_path), []).append(str(row.mask_path))

    def _setup(self, _stage: str | None = None) -> None:
        self.train_data = _dataset(self.support, {})
        self.test_data = _dataset(self.tested["image_path"].unique().tolist(), self.masks)


def _dataset(files: list[str], masks: dict[str, list[str]]) -> AnomalibDataset:
    dataset = AnomalibDataset()
    samples = DataFrame({"image_path": files, "mask_path": "", "split": "test"})
    samples["label"] = [NORMAL if file not in masks else "defect" for file in files]
    samples["label_index"] = [int(file in masks) for file in files]
    dataset.samples = samples
    dataset.samples.attrs["task"] = "classification"  # masks are read by our own reader, at native resolution
    return dataset
