"""Episodes over a user's own images."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from anomalib.data import AnomalibDataset
from anomalib.data.datasets.image.mvtecad import make_mvtec_ad_dataset
from pandas import DataFrame
from PIL import Image

from anomalib_sofs.annotations.class_index import read_class_index
from anomalib_sofs.annotations.coco import read_coco
from anomalib_sofs.annotations.labelme import read_labelme
from anomalib_sofs.annotations.labels import DEFECT, NORMAL
from anomalib_sofs.annotations.mask_cache import MaskCache, Sample
from anomalib_sofs.images import image_files, read_mask

from .checks import by_stem, match_masks, refuse_escaping_links
from .datamodule import EpisodeDataModule
from .datasets import QueryEpisodes
from .mvtecad import SUFFIXES, check_pairs
from .table import check_masks
from .vision import to_table

SUPPORT, QUERY, TEST = "support", "query", "test"
NAMES = "classes.txt"
SAMPLE = 16  # masks looked at to tell class numbers from grey values
MOST_CLASSES = 64


class FolderEpisodes(EpisodeDataModule):
    """Episodes over a user's own images, in the layouts that people and labelling tools produce.

    The root is one category, named after it, or holds one sub-folder per category. A category is one of:

    * ``support/{image,mask}`` and ``query/{image,mask}``: for testing only; every query gets all images of ``support``,
      whatever ``shot`` is. Without ``query/mask`` there is no ground truth: queries are segmented and count for no
      metric. With it every query needs a mask, all black for a normal image. Without ``support/mask`` the support is
      normal (few-shot anomaly detection).
    * MVTec AD's ``train/good``, ``test/CLASS`` and ``ground_truth/CLASS``.
    * ``images`` (or ``image``) beside ``masks`` (or ``mask``), matched by stem: ``name.png`` or ``name_mask.png``.
      Every image needs a mask, all black for a normal image. A ``classes.txt`` (one name per line, for 1, 2, ...) says
      that masks hold class numbers; without it they do if the first 16 hold only numbers up to 64 and one above 1, and
      the classes are called ``class_1``, ... Otherwise non-zero pixels are the one class ``defect``.
    * One COCO JSON file beside the images, or beside the folder ``images``; images without annotations are normal.
    * LabelMe's JSON files beside the images; a normal image has one, too, without shapes.

    Without ``base_categories`` and ``novel_categories`` all categories are tested on and none is trained on.

    Args:
        root: The folder.
        cache_dir: Where drawn masks go, see :class:`~anomalib_sofs.annotations.mask_cache.MaskCache`.
        **kwargs: See :class:`~anomalib_sofs.data.datamodule.EpisodeDataModule`.
    """

    def __init__(
        self,
        root: Path | str = "./datasets/own",
        cache_dir: Path | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, **kwargs)
        self.cache = MaskCache(self.root, cache_dir)

    def list_categories(self) -> list[str]:
        """List the root, if it is a category, or the categories in it."""
        return sorted(self._folders())

    def resolve_categories(self) -> tuple[list[str], list[str]]:
        """Fill in the categories that were not given: all are novel if none was.

        Raises:
            FileNotFoundError: If there is no category at all.
            ValueError: If a category does not exist or is in both lists.
        """
        existing = self.list_categories()
        if not existing:
            msg = f"{self.root} holds no category. The simplest is images/ beside masks/; see FolderEpisodes for all."
            raise FileNotFoundError(msg)
        if self.base_categories is None and self.novel_categories is None:
            return [], existing
        return super().resolve_categories()

    def samples_of(self, category: str) -> DataFrame:
        """Read a category, whatever its layout.

        Raises:
            ValueError: If a file is missing, unreadable or of another size, or a link leads out of the root.
        """
        folder = self._folders()[category]
        refuse_escaping_links(folder, self.root)
        layout = layout_of(folder)
        if layout is None:
            msg = f"{folder} has none of the layouts of FolderEpisodes."
            raise FileNotFoundError(msg)
        return layout(folder, self.root, self.cache)

    def check_table(self, table: DataFrame) -> None:
        """Check the samples; categories with ``support`` and ``query`` are for testing, by themselves.

        Raises:
            ValueError: If such categories are trained on or tested together with others.
        """
        given = table.groupby("category")["split"].agg(lambda splits: SUPPORT in set(splits))
        if not given.any():
            super().check_table(table)
            return
        names = ", ".join(map(repr, given.index[given]))
        if not given.all():
            others = ", ".join(map(repr, given.index[~given]))
            msg = f"{names} have support/ and query/, {others} have not. Test them apart."
            raise ValueError(msg)
        if not set(given.index) <= set(self.resolve_categories()[1]):
            msg = f"{names} have support/ and query/, so there is nothing to train on. Name them as novel_categories."
            raise ValueError(msg)
        check_masks(table)

    def query_episodes(self, table: DataFrame) -> QueryEpisodes:
        """Make the test episodes, with the given support where there is a ``support`` folder."""
        if SUPPORT in set(table["split"]):
            return GivenSupportEpisodes(table)
        return super().query_episodes(table)

    def _folders(self) -> dict[str, Path]:
        if not self.root.is_dir():
            return {}
        if layout_of(self.root):
            return {self.root.resolve().name: self.root}
        folders = (path for path in self.root.iterdir() if path.is_dir() and not path.name.startswith("."))
        return {path.name: path for path in folders if layout_of(path)}


class GivenSupportEpisodes(QueryEpisodes):
    """Every query with all support images of its category.

    Args:
        table: Samples with the split ``support`` or ``query``.
    """

    def __init__(self, table: DataFrame) -> None:
        AnomalibDataset.__init__(self)
        self.episodes = []
        for _, rows in table.groupby("category"):
            support = list(rows[rows["split"] == SUPPORT].itertuples())
            self.episodes += [(row, DEFECT, support) for row in rows[rows["split"] == QUERY].itertuples()]
        self._samples = DataFrame([row._asdict() for row, _, _ in self.episodes])
        self._samples["label_index"] = (self._samples["label"] != NORMAL).astype(int)
        self._samples.attrs["task"] = "segmentation"


Layout = Callable[[Path, Path, MaskCache], DataFrame]


def layout_of(folder: Path) -> Layout | None:
    """Tell how a category is laid out; ``None`` if it is no category."""
    if (folder / SUPPORT / "image").is_dir() and (folder / QUERY / "image").is_dir():
        return read_support_query
    if (folder / "test").is_dir():
        return read_mvtec
    if pair_of(folder):
        return read_images_masks
    files = json_files(folder)
    if not files:
        return None
    stems = {file.stem for file in image_files(folder)}
    alone = len(files) == 1 and files[0].stem not in stems
    return read_coco_folder if alone and (stems or (folder / "images").is_dir()) else read_labelme_folder


def json_files(folder: Path) -> list[Path]:
    """List the JSON files of a folder by name."""
    return sorted(file for file in folder.glob("*.json") if not file.name.startswith("."))


class Pair(NamedTuple):
    """A folder of images and one of masks."""

    images: Path
    masks: Path


def pair_of(folder: Path) -> Pair | None:
    """Find ``images`` beside ``masks``, or ``image`` beside ``mask``."""
    pairs = (Pair(folder / f"image{plural}", folder / f"mask{plural}") for plural in ("s", ""))
    return next((pair for pair in pairs if pair.images.is_dir() and pair.masks.is_dir()), None)


def read_mvtec(folder: Path, root: Path, cache: MaskCache) -> DataFrame:
    """Read MVTec AD's layout with anomalib's loader."""
    del root, cache
    check_pairs(folder)
    return make_mvtec_ad_dataset(folder, extensions=SUFFIXES)


def read_support_query(folder: Path, root: Path, cache: MaskCache) -> DataFrame:
    """Read ``support/{image,mask}`` and ``query/{image,mask}``."""
    del root, cache
    rows: list[tuple[Sample, str]] = []
    for split in (SUPPORT, QUERY):
        pair = Pair(folder / split / "image", folder / split / "mask")
        files = image_files(pair.images)
        if not files:
            msg = f"There is no image in {pair.images}. Put at least one there."
            raise ValueError(msg)
        by_stem(files)
        samples = binary(pair) if pair.masks.is_dir() else (Sample(str(file), "", NORMAL) for file in files)
        rows += [(sample, split) for sample in samples]
    return to_table(rows)


def read_images_masks(folder: Path, root: Path, cache: MaskCache) -> DataFrame:
    """Read ``images`` beside ``masks``, binary or with class numbers."""
    del root
    pair = pair_of(folder)
    assert pair is not None  # noqa: S101 - layout_of found it
    source = folder / NAMES
    names = read_class_names(source) if source.is_file() else None
    if names is None and not holds_class_numbers(image_files(pair.masks)[:SAMPLE]):
        return to_table([(sample, TEST) for sample in binary(pair)])
    samples: list[Sample] = []
    for image, mask in match_masks(image_files(pair.images), image_files(pair.masks), pair.masks):
        samples += cache.samples(mask, partial(read_class_index, mask, image, names, source), key=f"{image}{names}")
    return to_table([(sample, TEST) for sample in samples])


def read_coco_folder(folder: Path, root: Path, cache: MaskCache) -> DataFrame:
    """Read one COCO file beside images, or beside ``images``."""
    (file,) = json_files(folder)
    images = folder if image_files(folder) else folder / "images"
    samples = cache.samples(file, partial(read_coco, file, images, root))
    return to_table([(sample, TEST) for sample in samples])


def read_labelme_folder(folder: Path, root: Path, cache: MaskCache) -> DataFrame:
    """Read LabelMe files beside images."""
    samples: list[Sample] = []
    for file in json_files(folder):
        samples += cache.samples(file, partial(read_labelme, file, root))
    labelled = {Path(sample.image_path).resolve() for sample in samples}
    for image in image_files(folder):
        if image.resolve() not in labelled:
            msg = (
                f"{image} has no LabelMe file: expected {image.with_suffix('.json')}. Save it in LabelMe (without "
                "shapes if it is normal), or remove the image."
            )
            raise ValueError(msg)
    return to_table([(sample, TEST) for sample in samples])


def binary(pair: Pair) -> Iterator[Sample]:
    """List images with masks whose non-zero pixels are defect; an empty mask means a normal image."""
    matched = match_masks(image_files(pair.images), image_files(pair.masks), pair.masks)
    with ThreadPoolExecutor() as pool:
        marked = list(pool.map(lambda pair: bool(read_mask(pair[1]).any()), matched))
    for (image, mask), defective in zip(matched, marked, strict=True):
        yield Sample(str(image), str(mask), DEFECT) if defective else Sample(str(image), "", NORMAL)


def holds_class_numbers(masks: list[Path]) -> bool:
    """Tell small class numbers from grey values."""
    most = 0
    for mask in masks:
        with Image.open(mask) as opened:
            if opened.mode not in {"L", "P"} and opened.mode[0] != "I":
                return False
            most = max(most, int(np.asarray(opened).max()))
    return 1 < most <= MOST_CLASSES


def read_class_names(source: Path) -> dict[int, str]:
    """Read class names, one per line, for 1, 2, ...

    Raises:
        ValueError: If a name is empty, doubled or ``good``.
    """
    lines = [line.strip() for line in source.read_text(encoding="utf-8-sig").splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    for number, name in enumerate(lines, start=1):
        if not name or name == NORMAL or lines.count(name) > 1:
            msg = f"{source} names class {number} {name!r}. Each line is a class: not empty, not {NORMAL!r}, not twice."
            raise ValueError(msg)
    return dict(enumerate(lines, start=1))
