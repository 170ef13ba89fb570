"""Categories on disk, in any layout that `FolderEpisodes` reads: read and checked before any work."""

from collections.abc import Sequence
from pathlib import Path

from pandas import DataFrame

from anomalib_sofs.data.checks import leave_out_small_classes
from anomalib_sofs.data.folder import SUPPORT, FolderEpisodes
from anomalib_sofs.data.table import check_categories, check_classes, check_masks, combine, defects, normals

from .arguments import BenchmarkError


def read_categories(root: Path, categories: Sequence[str] | None) -> dict[str, DataFrame]:
    """Read categories; normal images may be missing.

    Args:
        root: Folder that holds the categories, or one category.
        categories: Their names; ``None`` for all.

    Returns:
        The samples table of each category, see :func:`~anomalib_sofs.data.table.combine`.

    Raises:
        BenchmarkError: If the root, a category or a mask is missing.
    """
    if not root.is_dir():
        msg = f"--root {root} does not exist. It should hold one folder per category, or images and masks of one."
        raise BenchmarkError(msg)
    data = FolderEpisodes(root)
    existing = data.list_categories()
    try:
        check_categories(categories or [], existing, root)
        tables = {name: combine({name: data.samples_of(name)}) for name in categories or existing}
    except (ValueError, OSError) as error:
        raise BenchmarkError(error) from error
    if not tables:
        msg = f"--root {root} holds no category. The simplest is images/ beside masks/; see FolderEpisodes for all."
        raise BenchmarkError(msg)
    for name, table in tables.items():
        if SUPPORT in set(table["split"]):
            msg = (
                f"{name!r} in {root} has support/ and query/, but the protocol chooses the support of every query "
                "itself. Put all images into images/ and all masks into masks/."
            )
            raise BenchmarkError(msg)
    return tables


def segmentation_tables(root: Path, categories: Sequence[str] | None, shots: int) -> dict[str, DataFrame]:
    """Read the categories of a few-shot segmentation run.

    Args:
        root: Folder that holds the categories, or one category.
        categories: Their names; ``None`` for all.
        shots: Most support images per query; classes that are too small for it are left out, with a warning.

    Returns:
        The table of each category, see :func:`~anomalib_sofs.data.table.combine`.

    Raises:
        BenchmarkError: If anything about the data would stop the run.
    """
    tables = {}
    for category, samples in read_categories(root, categories).items():
        try:
            table = leave_out_small_classes(samples, shots, _folder(root, category))
            if defects(table).empty:
                msg = (
                    f"{_folder(root, category)} has no class with {shots + 1} images, as {shots} shots need. "
                    "Lower --shots."
                )
                raise BenchmarkError(msg)
            check_classes(table, shots)
            check_masks(table)
        except (ValueError, OSError) as error:
            raise BenchmarkError(error) from error
        tables[category] = table
    return tables


def detection_tables(root: Path, categories: Sequence[str] | None, shots: int) -> dict[str, DataFrame]:
    """Read the categories of a few-shot anomaly detection run.

    Args:
        root: Folder that holds the categories, or one category.
        categories: Their names; ``None`` for all.
        shots: Most support images.

    Returns:
        The table of each category.

    Raises:
        BenchmarkError: If one has too few normal images, or a mask does not fit its image.
    """
    tables = read_categories(root, categories)
    for category, table in tables.items():
        found = len(support_pool(table))
        if found < shots:
            where = "train/good of " if (_folder(root, category) / "test").is_dir() else ""
            msg = (
                f"{where}{_folder(root, category)} has {found} normal images, but {shots} shots are asked for. "
                "Lower --shots, or choose a category with normal training images."
            )
            raise BenchmarkError(msg)
        try:
            check_masks(table)
        except (ValueError, OSError) as error:
            raise BenchmarkError(error) from error
    return tables


def support_pool(table: DataFrame) -> DataFrame:
    """Return the normal images that a support may be drawn from.

    They are those for training. Layouts without a split have all normal images here; what is drawn is not tested.
    """
    return normals(table, "train") if "train" in set(table["split"]) else normals(table)


def _folder(root: Path, category: str) -> Path:
    """Return the folder of a category; the root may be the category itself."""
    return root / category if (root / category).is_dir() else root
