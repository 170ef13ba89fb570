"""Episodes over MVTec AD, or any folder in its layout."""

from pathlib import Path
from typing import Any, ClassVar

from anomalib.data import MVTecAD
from anomalib.data.datasets.image import mvtecad
from anomalib.data.datasets.image.mvtecad import make_mvtec_ad_dataset
from pandas import DataFrame

from anomalib_sofs.annotations.labels import NORMAL
from anomalib_sofs.images import IMAGE_SUFFIXES, image_files

from . import folds
from .checks import by_stem, refuse_escaping_links
from .datamodule import EpisodeDataModule

SUFFIXES = tuple(sorted(IMAGE_SUFFIXES | {suffix.upper() for suffix in IMAGE_SUFFIXES}))


def accept_all_suffixes() -> None:
    """Let anomalib's own MVTecAD read JPEG, BMP and TIFF, too: MVTec's layout is used for more than PNG files."""
    mvtecad.IMG_EXTENSIONS = SUFFIXES  # type: ignore[assignment]


class MVTecADEpisodes(EpisodeDataModule):
    """Episodes over categories in MVTec AD's layout; anomalib's loader downloads, checks and reads them.

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
            if category in mvtecad.CATEGORIES and not (self.root / category).is_dir():
                MVTecAD(root=self.root, category=category).prepare_data()

    def list_categories(self) -> list[str]:
        """List the folders below the root that hold a ``test`` folder."""
        if not self.root.is_dir():
            return []
        return sorted(folder.name for folder in self.root.iterdir() if (folder / "test").is_dir())

    def samples_of(self, category: str) -> DataFrame:
        """Read a category with anomalib's loader.

        Raises:
            ValueError: If a defective image has no mask, naming it, or a link leads out of the root.
        """
        refuse_escaping_links(self.root / category, self.root)
        check_pairs(self.root / category)
        return make_mvtec_ad_dataset(self.root / category, extensions=SUFFIXES)


def check_pairs(category: Path) -> None:
    """Check that images and masks of a category match by stem; anomalib's loader only notices that counts differ.

    Raises:
        ValueError: If a defective image has no mask or a mask no image, or two share a stem, naming the files.
    """
    for folder in sorted(path for path in (category / "test").iterdir() if path.is_dir() and path.name != NORMAL):
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
