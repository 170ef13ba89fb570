"""Episodes over a user's own images."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from anomalib.data import AnomalibDataset
from pandas import DataFrame

from anomalib_sofs.annotations.labels import DEFECT, NORMAL, is_normal_name
from anomalib_sofs.annotations.marked import Drawn, Entry, Layout, Marked, Unmarked
from anomalib_sofs.annotations.mask_cache import MaskCache, Sample
from anomalib_sofs.annotations.masks import read_marks
from anomalib_sofs.annotations.notices import warn_once
from anomalib_sofs.annotations.places import IMAGES, LABELS, MASKS, describe, image_folder, images_of
from anomalib_sofs.annotations.reader import recognise, support_entries, with_marks
from anomalib_sofs.images import sub_folders

from .checks import refuse_escaping_links
from .datamodule import EpisodeDataModule
from .datasets import QueryEpisodes, Row
from .mvtec_table import mvtec_samples
from .table import check_masks
from .vision import to_table

SUPPORT, QUERY, TEST = "support", "query", "test"


class FolderEpisodes(EpisodeDataModule):
    """Episodes over a user's own images, in the layouts that people and labelling tools produce.

    The root is one category, named after it, or holds one sub-folder per category. A category is one of:

    * ``support`` and ``query``: for testing only; every query gets all images of ``support`` that show its class (and
      the normal ones), whatever ``shot`` is. ``support`` is read as by :meth:`SupportSet.from_folder`, ``query`` in any
      of the forms below. A ``query`` without marks has no ground truth: its images count for no metric.
    * MVTec AD's ``train/good``, ``test/CLASS`` and ``ground_truth/CLASS``.
    * Images with marks in any form that :func:`~anomalib_sofs.annotations.reader.recognise` knows: ``images`` beside
      ``masks``, ``part_mask.png`` beside ``part.png``, COCO, LabelMe or YOLO files, or one sub-folder per class (below
      a folder of categories, or beside a sub-folder ``good``). What trains here is a support folder, too.

    Every image needs a mask or an annotation file (YOLO's may be missing); one that marks nothing means a normal image,
    as a folder ``good`` does. A ``classes.txt`` (one name per line, for 1, 2, ...) says that masks hold class numbers;
    without it they do if the first 16 hold only numbers up to 64, perhaps beside 255, and one above 1, and the classes
    are called ``class_1``, ... Otherwise non-zero pixels are the one class ``defect``. Pixels of 255 beside class
    numbers are ignored: they count neither as defect nor as normal.

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
        read = layout_of(folder, self.root)
        if read is None:
            msg = f"{folder} has none of the layouts of FolderEpisodes."
            raise FileNotFoundError(msg)
        return read(folder, self.root, self.cache)

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
        if layout_of(self.root, self.root, classes=False):
            return {self.root.resolve().name: self.root}
        found: dict[str, Path] = {}
        for path in sub_folders(self.root):
            if layout_of(path, self.root):
                found[path.name] = path
            elif image_folder(path) is not None:
                warn_once(path, "%s is left out: nothing in it marks a defect (%s).", path, describe(path))
        return found


class GivenSupportEpisodes(QueryEpisodes):
    """Every query with the support images of its category that show its class, and with the normal ones.

    Queries without a class get those of the classes in turn.

    Args:
        table: Samples with the split ``support`` or ``query``.
    """

    def __init__(self, table: DataFrame) -> None:
        AnomalibDataset.__init__(self)
        self.episodes = []
        for _, rows in table.groupby("category"):
            support: list[Row] = list(rows[rows["split"] == SUPPORT].itertuples())
            queries: list[Row] = list(rows[rows["split"] == QUERY].itertuples())
            names = classes_of(support) or classes_of(queries) or [DEFECT]
            normal = [row for row in support if row.label == NORMAL]
            examples = {name: [row for row in support if row.label == name] + normal for name in names}
            for row in queries:
                if row.label != NORMAL:
                    self.episodes.append((row, row.label, examples[row.label]))
            for number, row in enumerate(row for row in queries if row.label == NORMAL):
                name = names[number % len(names)]
                self.episodes.append((row, name, examples[name]))
        self._samples = DataFrame([row._asdict() for row, _, _ in self.episodes])
        self._samples["label_index"] = (self._samples["label"] != NORMAL).astype(int)
        self._samples.attrs["task"] = "segmentation"


def classes_of(rows: Iterable[Sample]) -> list[str]:
    """List the defect classes of samples by name."""
    return sorted({row.label for row in rows if row.label != NORMAL})


Read = Callable[[Path, Path, MaskCache], DataFrame]


def layout_of(folder: Path, root: Path, *, classes: bool = True) -> Read | None:
    """Tell how a category is laid out; ``None`` if it is no category.

    Args:
        folder: Where to look.
        root: Folder of the dataset.
        classes: Whether sub-folders may be classes; otherwise only beside a sub-folder ``good``.
    """
    if (folder / SUPPORT).is_dir() and (folder / QUERY).is_dir():
        return read_support_query
    if any(path.name.lower() not in {*IMAGES, *MASKS, *LABELS} for path in sub_folders(folder / TEST)):
        return read_mvtec
    classes = classes or any(is_normal_name(path.name) for path in sub_folders(folder))
    layout = recognise(folder, root, classes=classes)
    return None if layout is None else partial(read_marked, layout)


def read_mvtec(folder: Path, root: Path, cache: MaskCache) -> DataFrame:
    """Read MVTec AD's layout, with its own splits."""
    del root, cache
    return mvtec_samples(folder)


def read_marked(layout: Layout, folder: Path, root: Path, cache: MaskCache) -> DataFrame:
    """Read images with marks in any other layout; all of them are for testing."""
    del folder, root
    return to_table([(sample, TEST) for sample in samples_of(layout.read(), cache)])


def read_support_query(folder: Path, root: Path, cache: MaskCache) -> DataFrame:
    """Read ``support`` and ``query``.

    Raises:
        ValueError: If nothing is marked on a support image outside of a folder ``good``, or ``query`` shows a class
            that ``support`` does not, or no class where ``support`` shows several.
    """
    entries = support_entries(folder / SUPPORT, root)
    for entry in entries:
        with_marks(entry)  # refuses what is empty
    support = samples_of(entries, cache)
    layout = recognise(folder / QUERY, root)
    queries = (
        [Sample(str(image), "", NORMAL) for image in images_of(image_folder(folder / QUERY) or folder / QUERY)]
        if layout is None
        else samples_of(layout.read(), cache)
    )
    shown = classes_of(support)
    unknown = [name for name in classes_of(queries) if name not in shown]
    if shown and unknown:
        msg = (
            f"{folder / QUERY} shows {', '.join(map(repr, unknown))}, but {folder / SUPPORT} shows "
            f"{', '.join(map(repr, shown))}. Name the classes alike, or leave out what has no support."
        )
        raise ValueError(msg)
    if layout is None and len(shown) > 1:
        msg = (
            f"{folder / QUERY} has no marks, and {folder / SUPPORT} shows several classes: {', '.join(shown)}. To find "
            f"all of them, predict with --model.support {folder / SUPPORT}."
        )
        raise ValueError(msg)
    return to_table([*((sample, SUPPORT) for sample in support), *((sample, QUERY) for sample in queries)])


def samples_of(entries: list[Entry], cache: MaskCache) -> list[Sample]:
    """Turn entries into rows of the samples table, drawing masks where there are no files."""
    masks = [entry.mask for entry in entries if isinstance(entry, Marked) and isinstance(entry.mask, Path)]
    with ThreadPoolExecutor() as pool:
        hits = pool.map(lambda mask: bool((read_marks(mask) == 1).any()), masks)
        defective = {mask for mask, hit in zip(masks, hits, strict=True) if hit}
    samples: list[Sample] = []
    for entry in entries:
        if isinstance(entry, Drawn):
            samples += cache.samples_of(entry)
        elif isinstance(entry, Marked) and entry.mask in defective:
            samples.append(Sample(str(entry.image), str(entry.mask), entry.label))
        else:
            samples.append(Sample(str(entry.image), "", NORMAL))
    _say_unmarked([entry for entry in entries if isinstance(entry, Unmarked)])
    return samples


def _say_unmarked(entries: list[Unmarked]) -> None:
    if entries:
        warn_once(
            entries[0].expected.parent,
            "%d images have no label file and are taken as normal, the first of them %s (expected %s).",
            len(entries),
            entries[0].image,
            entries[0].expected,
        )
