"""Categories on disk: read and checked before any work."""

from collections.abc import Sequence
from pathlib import Path

from pandas import DataFrame

from anomalib_sofs.data import MVTecADEpisodes
from anomalib_sofs.data.checks import leave_out_small_classes
from anomalib_sofs.data.table import check_categories, check_classes, check_masks, combine, defects, normals

from .arguments import BenchmarkError


def read_categories(root: Path, categories: Sequence[str]) -> dict[str, DataFrame]:
    """Read categories in MVTec AD's layout; normal images and a train folder may be missing.

    Args:
        root: Folder that holds the categories.
        categories: Their names.

    Returns:
        anomalib's samples table of each category.

    Raises:
        BenchmarkError: If the root, a category or a mask is missing.
    """
    if not root.is_dir():
        msg = f"--root {root} does not exist. It should hold one folder per category, each with a folder test/."
        raise BenchmarkError(msg)
    data = MVTecADEpisodes(root=root, novel_categories=list(categories))
    try:
        check_categories(categories, data.list_categories(), root)
        return {category: data.samples_of(category) for category in categories}
    except (ValueError, OSError) as error:
        raise BenchmarkError(error) from error


def segmentation_tables(root: Path, categories: Sequence[str], shots: int) -> dict[str, DataFrame]:
    """Read the categories of a few-shot segmentation run.

    Args:
        root: Folder that holds the categories.
        categories: Their names.
        shots: Most support images per query; classes that are too small for it are left out, with a warning.

    Returns:
        The table of each category, see :func:`~anomalib_sofs.data.table.combine`.

    Raises:
        BenchmarkError: If anything about the data would stop the run.
    """
    tables = {}
    for category, samples in read_categories(root, categories).items():
        try:
            table = combine({category: leave_out_small_classes(samples, shots, root / category)})
            if defects(table).empty:
                msg = f"{root / category} has no class with {shots + 1} images, as {shots} shots need. Lower --shots."
                raise BenchmarkError(msg)
            check_classes(table, shots)
            check_masks(table)
        except (ValueError, OSError) as error:
            raise BenchmarkError(error) from error
        tables[category] = table
    return tables


def check_normal_images(root: Path, categories: Sequence[str], shots: int) -> None:
    """Check that every category has enough normal training images for few-shot anomaly detection.

    Raises:
        BenchmarkError: If one has not, or a mask does not fit its image.
    """
    for category, samples in read_categories(root, categories).items():
        table = combine({category: samples})
        found = len(normals(table, "train"))
        if found < shots:
            msg = (
                f"{root / category / 'train' / 'good'} has {found} images, but {shots} shots are asked for. "
                "Lower --shots, or choose a category with normal training images."
            )
            raise BenchmarkError(msg)
        try:
            check_masks(table)
        except (ValueError, OSError) as error:
            raise BenchmarkError(error) from error
