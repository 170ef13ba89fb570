"""Episodes over the VISION V1 benchmark."""

from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pandas import DataFrame

from anomalib_sofs.annotations.coco import read_coco
from anomalib_sofs.annotations.labels import NORMAL
from anomalib_sofs.annotations.mask_cache import MaskCache, Sample
from anomalib_sofs.images import sub_folders

from . import folds
from .checks import leave_out_small_classes, refuse_escaping_links
from .datamodule import EpisodeDataModule

ANNOTATIONS = "_annotations.coco.json"
SPLITS = {"train": "train", "val": "test"}  # VISION's folders, and what their normal images are good for


class VisionEpisodes(EpisodeDataModule):
    """Episodes over VISION V1 (huggingface.co/datasets/VISION-Workshop/VISION-Datasets), its 14 objects unpacked.

    Layout: ``ROOT/OBJECT/{train,val}/_annotations.coco.json`` beside the images. Each defect category that the file
    names is a class; an image with several gives one sample per class, with that class's own mask. Images without
    annotations are normal. Classes with too few images for an episode are left out with a warning.

    Args:
        root: Folder that holds the objects.
        cache_dir: Where the drawn masks go, see :class:`~anomalib_sofs.annotations.mask_cache.MaskCache`.
        **kwargs: See :class:`~anomalib_sofs.data.datamodule.EpisodeDataModule`.
    """

    FOLDS: ClassVar[folds.Folds] = folds.VISION

    def __init__(
        self,
        root: Path | str = "./datasets/VISION",
        cache_dir: Path | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, **kwargs)
        self.cache = MaskCache(self.root, cache_dir)

    def list_categories(self) -> list[str]:
        """List the folders below the root that hold annotations."""
        if not self.root.is_dir():
            return []
        return sorted(folder.name for folder in sub_folders(self.root) if annotations_of(folder))

    def samples_of(self, category: str) -> DataFrame:
        """Read the COCO files of an object, one after the other.

        Raises:
            ValueError: If a file is wrong, see :func:`~anomalib_sofs.annotations.coco.read_coco`.
        """
        folder = self.root / category
        refuse_escaping_links(folder, self.root)
        rows: list[tuple[Sample, str]] = []
        for file in annotations_of(folder):
            samples = self.cache.samples(file, partial(read_coco, file, file.parent, self.root))
            rows += [(sample, SPLITS[file.parent.name]) for sample in samples]
        return leave_out_small_classes(to_table(rows), self.shot, folder)


def annotations_of(folder: Path) -> list[Path]:
    """List the annotation files of an object."""
    return [file for split in SPLITS if (file := folder / split / ANNOTATIONS).is_file()]


def to_table(rows: list[tuple[Sample, str]]) -> DataFrame:
    """Make the samples table of samples and their splits."""
    table = DataFrame([sample for sample, _ in rows], columns=list(Sample._fields))
    table["split"] = [split for _, split in rows]
    table["label_index"] = (table["label"] != NORMAL).astype(int)
    return table
