"""Episodes over MVTec AD, or any folder in its layout."""

from pathlib import Path
from typing import Any, ClassVar

from anomalib.data import MVTecAD
from anomalib.data.datasets.image.mvtecad import CATEGORIES
from pandas import DataFrame

from . import folds
from .checks import refuse_escaping_links
from .datamodule import EpisodeDataModule
from .mvtec_table import mvtec_samples


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
        return mvtec_samples(self.root / category)
