"""Episodes over VisA."""

import csv
from pathlib import Path
from typing import Any, ClassVar

from anomalib.data import Visa
from anomalib.data.datamodules.image.visa import VISA_CATEGORIES
from pandas import DataFrame

from anomalib_sofs.annotations.labels import NORMAL
from anomalib_sofs.images import image_files

from . import folds
from .checks import leave_out_small_classes, refuse_escaping_links
from .datamodule import EpisodeDataModule
from .mvtec_table import mvtec_samples

BAD = "bad"
"""The one defect class that anomalib's conversion knows."""


class VisaEpisodes(EpisodeDataModule):
    """Episodes over VisA; anomalib downloads, converts and splits it.

    The defect classes are the kinds that ``CATEGORY/image_anno.csv`` of the raw data names, or the one class ``bad``
    where there is no such file. An image with several kinds (``"scratch,dent"``) belongs to the first of them, since
    its mask does not tell them apart. Kinds with too few images for an episode are left out with a warning.

    Args:
        root: Folder of the dataset, as for ``anomalib.data.Visa``: raw categories and ``visa_pytorch`` in it.
        **kwargs: See :class:`~anomalib_sofs.data.datamodule.EpisodeDataModule`.
    """

    FOLDS: ClassVar[folds.Folds] = folds.VISA

    def __init__(self, root: Path | str = "./datasets/visa", **kwargs: Any) -> None:
        super().__init__(root, **kwargs)

    def prepare_data(self) -> None:
        """Download and convert VisA as anomalib does, if one of the categories asked for is missing."""
        for category in [*(self.base_categories or []), *(self.novel_categories or [])]:
            if category in VISA_CATEGORIES and category not in self.list_categories():
                Visa(root=self.root, category=category).prepare_data()

    def list_categories(self) -> list[str]:
        """List the converted categories that hold defective images."""
        converted = self.root / "visa_pytorch"
        if not converted.is_dir():
            return []
        return sorted(folder.name for folder in converted.iterdir() if image_files(folder / "test" / BAD))

    def samples_of(self, category: str) -> DataFrame:
        """Read a category and name the defect kinds.

        Raises:
            ValueError: If a defective image has no mask, has no kind in the csv file, or a link leads out of the root.
        """
        folder = self.root / "visa_pytorch" / category
        refuse_escaping_links(folder, self.root)
        samples = mvtec_samples(folder)
        table = self.root / category / "image_anno.csv"
        if not table.is_file():
            return samples
        kinds = read_kinds(table)
        bad = samples["label"] == BAD
        names = samples.loc[bad, "image_path"].map(lambda path: Path(path).name)
        unknown = names[~names.isin(list(kinds))]
        if not unknown.empty:
            msg = f"{table} has no row for {unknown.iloc[0]}. Add it, or remove the file to have the one class {BAD!r}."
            raise ValueError(msg)
        samples.loc[bad, "label"] = names.map(kinds)
        return leave_out_small_classes(samples, self.shot, table)


def read_kinds(table: Path) -> dict[str, str]:
    """Read the first defect kind of each anomalous image by file name.

    Raises:
        ValueError: If the columns ``image`` and ``label`` are missing.
    """
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        if not {"image", "label"} <= set(rows.fieldnames or []):
            there_are = ", ".join(rows.fieldnames or [])
            msg = f"{table} has the columns {there_are}, but image and label are needed. Restore it."
            raise ValueError(msg)
        kinds = {Path(row["image"]).name: (row["label"] or "").split(",")[0].strip() for row in rows}
    return {name: kind for name, kind in kinds.items() if kind and kind not in {"normal", NORMAL}}
