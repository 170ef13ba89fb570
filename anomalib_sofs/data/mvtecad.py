"""Episodes over MVTec AD, or any folder in its layout."""

from pathlib import Path
from typing import Any, ClassVar

from anomalib.data import MVTecAD
from anomalib.data.datasets.image.mvtecad import CATEGORIES
from pandas import DataFrame

from anomalib_sofs.annotations.labels import NORMAL
from anomalib_sofs.images import IMAGE_SUFFIXES, image_files

from . import folds
from .checks import by_stem, refuse_escaping_links
from .datamodule import EpisodeDataModule

SUFFIXES = tuple(sorted(IMAGE_SUFFIXES | {suffix.upper() for suffix in IMAGE_SUFFIXES}))
SAMPLE_COLUMNS = ["path", "split", "label", "image_path", "label_index", "mask_path"]
"""Columns of anomalib's tables of samples."""


class MVTecADEpisodes(EpisodeDataModule):
    """Episodes over categories in MVTec AD's layout, images of any suffix; anomalib's loader downloads MVTec AD.

    Args:
        root: Folder that holds the categories.
        **kwargs: See :class:`~anomalib_sofs.data.datamodule.EpisodeDataModule`.
    """

    FOLDS: ClassVar[folds.Folds] = folds.MVTEC_AD

    def __init__(self, root: Path | str = "./datasets/MVTecAD", **kwargs: Any) -> None:
        super().__init__(root, **kwargs)

    def prepare_data(self) -> None:
        """Download MVTec AD as anomalib does, if one of its own categories is asked for and missing."""
        for category in [*(self.base_categories or []), *(self.novel_categories or [])]:
            if category in CATEGORIES and not (self.root / category).is_dir():
                MVTecAD(root=self.root, category=category).prepare_data()

    def list_categories(self) -> list[str]:
        """List the folders below the root that hold a ``test`` folder."""
        if not self.root.is_dir():
            return []
        return sorted(folder.name for folder in self.root.iterdir() if (folder / "test").is_dir())

    def samples_of(self, category: str) -> DataFrame:
        """Read a category.

        Raises:
            ValueError: If a defective image has no mask, naming it, or a link leads out of the root.
        """
        refuse_escaping_links(self.root / category, self.root)
        return read_category(self.root / category)


def read_category(category: Path) -> DataFrame:
    """Read ``train/CLASS``, ``test/CLASS`` and ``ground_truth/CLASS`` into a table of samples like anomalib's.

    anomalib's own reader takes PNG files only, and leaves out links that lead out of the category without a word.

    Args:
        category: Its folder.

    Returns:
        Samples in name order, with the columns :data:`SAMPLE_COLUMNS`; ``mask_path`` is ``None`` for normal images.

    Raises:
        FileNotFoundError: If there is no image in ``train`` and ``test``.
        ValueError: If images and masks do not match, see :func:`check_pairs`.
    """
    check_pairs(category)
    rows = []
    for split in ("test", "train"):
        for folder in class_folders(category / split):
            masks = by_stem(image_files(category / "ground_truth" / folder.name), "_mask")
            for file in image_files(folder):
                mask = masks.get(file.stem) if folder.name != NORMAL and split == "test" else None
                rows.append(
                    (
                        str(category),
                        split,
                        folder.name,
                        str(file),
                        int(folder.name != NORMAL),
                        None if mask is None else str(mask),
                    )
                )
    if not rows:
        msg = (
            f"{category} holds no image in train/CLASS or test/CLASS. MVTec AD's layout has train/good and test/CLASS."
        )
        raise FileNotFoundError(msg)
    samples = DataFrame(rows, columns=SAMPLE_COLUMNS)
    samples["mask_path"] = samples["mask_path"].astype(object).where(samples["mask_path"].notna(), None)
    samples.attrs["task"] = "segmentation"
    return samples


def class_folders(split: Path) -> list[Path]:
    """List the folders of a split by name, one per class; hidden ones are none."""
    if not split.is_dir():
        return []
    return sorted(folder for folder in split.iterdir() if folder.is_dir() and not folder.name.startswith("."))


def check_pairs(category: Path) -> None:
    """Check that images and masks of a category match by stem.

    Raises:
        ValueError: If a defective image has no mask or a mask no image, or two share a stem, naming the files.
    """
    for folder in class_folders(category / "test"):
        if folder.name == NORMAL:
            continue
        masks = by_stem(image_files(category / "ground_truth" / folder.name), "_mask")
        images = by_stem(image_files(folder))
        for stem, file in images.items():
            if stem not in masks:
                msg = (
                    f"{file} of class {folder.name!r} has no mask: expected "
                    f"{category / 'ground_truth' / folder.name / stem}_mask.png. Add it, or move the image to "
                    f"{NORMAL!r}."
                )
                raise ValueError(msg)
        for stem, file in masks.items():
            if stem not in images:
                msg = f"The mask {file} belongs to no image in {folder}. Add the image, or remove the mask."
                raise ValueError(msg)
