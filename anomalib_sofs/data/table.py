"""The samples table behind every episode: what is in it, and every check on it before training starts."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pandas import DataFrame, concat

from anomalib_sofs.annotations.frames import check_mask_size
from anomalib_sofs.annotations.labels import NORMAL
from anomalib_sofs.images import image_size

COLUMNS = ["image_path", "mask_path", "category", "label", "split"]


def combine(categories: dict[str, DataFrame]) -> DataFrame:
    """Join the samples of several categories, each as anomalib's loaders return it.

    Args:
        categories: Samples with at least ``image_path, mask_path, label, label_index`` by category name; ``label`` is
            the defect class.

    Returns:
        One table with the columns ``image_path, mask_path, category, label, split``, sorted by category, label and
        file name; the ``label`` of normal images is ``"good"``, their ``mask_path`` ``""`` or a mask of ignored pixels.
    """
    parts = []
    for category, samples in categories.items():
        part = samples.copy()
        part["category"] = category
        part["mask_path"] = part["mask_path"].fillna("").astype(str)
        part.loc[part["label_index"] == 0, "label"] = NORMAL
        part["image_path"] = part["image_path"].astype(str)
        if "split" not in part:
            part["split"] = "test"
        parts.append(part[COLUMNS])
    table = concat(parts, ignore_index=True)
    table["name"] = [name_of(path) for path in table["image_path"]]
    return table.sort_values(["category", "label", "name"], ignore_index=True).drop(columns="name")


def name_of(path: str) -> str:
    """Return a file's name; a Path for each of 100,000 rows would take longer than reading the files' headers."""
    return os.path.basename(path)  # noqa: PTH119


def defects(table: DataFrame) -> DataFrame:
    """Return the rows of defective images."""
    return table[table["label"] != NORMAL]


def normals(table: DataFrame, split: str | None = None) -> DataFrame:
    """Return the rows of normal images, of one split if given."""
    rows = table[table["label"] == NORMAL]
    return rows if split is None else rows[rows["split"] == split]


def check_categories(wanted: Sequence[str], existing: Sequence[str], root: Path) -> None:
    """Check that categories exist.

    Raises:
        ValueError: If one does not, with the list of those that do.
    """
    unknown = [category for category in wanted if category not in existing]
    if unknown:
        msg = f"No category {', '.join(map(repr, unknown))} in {root}. There are: {', '.join(existing) or 'none'}."
        raise ValueError(msg)


def check_disjoint(base: Sequence[str], novel: Sequence[str]) -> None:
    """Check that no category is both trained and tested on.

    Raises:
        ValueError: If base and novel categories overlap.
    """
    shared = sorted(set(base) & set(novel))
    if shared:
        msg = (
            f"{', '.join(map(repr, shared))} is both a base and a novel category. "
            "Novel categories must never be seen in training: remove it from one of the two."
        )
        raise ValueError(msg)


def check_classes(table: DataFrame, shot: int) -> None:
    """Check that every class can give ``shot`` supports beside a query.

    Raises:
        ValueError: If a category has no defective image, a class is too small, or two files of a class share a stem.
    """
    for category, rows in table.groupby("category"):
        if defects(rows).empty:
            msg = (
                f"Category {category!r} has only normal images, so no episode can be made of it. Leave it out, or use "
                "a stock datamodule for few-shot anomaly detection."
            )
            raise ValueError(msg)
    for (name, label), rows in defects(table).groupby(["category", "label"]):
        if len(rows) < shot + 1:
            msg = (
                f"Class {label!r} of {name!r} has {len(rows)} images; {shot} shots need at least {shot + 1}, one "
                "being the query. Lower shot, add images, or leave out the class."
            )
            raise ValueError(msg)
        stems = rows["image_path"].map(lambda path: os.path.splitext(name_of(path))[0])  # noqa: PTH122
        if stems.duplicated().any():
            twins = rows["image_path"][stems == stems[stems.duplicated()].iloc[0]].tolist()
            msg = f"Two images of class {label!r} share one stem: {' and '.join(twins)}. Rename one of them."
            raise ValueError(msg)


def check_masks(table: DataFrame) -> None:
    """Check that every defective image has a mask of its own size; only file headers are read.

    Raises:
        ValueError: If a mask is missing or of another size, or a file cannot be read.
    """
    rows = defects(table)
    for image, mask, label in zip(rows["image_path"], rows["mask_path"], rows["label"], strict=True):
        if not mask or not os.path.isfile(mask):  # noqa: PTH113
            where = f": {mask} does not exist" if mask else ""
            msg = f"{image} of class {label!r} has no mask{where}. Add the mask, or move the image to {NORMAL!r}."
            raise ValueError(msg)
    image_sizes, mask_sizes = read_sizes(rows["image_path"].tolist()), read_sizes(rows["mask_path"].tolist())
    for image, mask, size, mask_size in zip(
        rows["image_path"], rows["mask_path"], image_sizes, mask_sizes, strict=True
    ):
        if size != mask_size:
            check_mask_size(mask_size, mask, Path(image))


def read_sizes(files: Sequence[str]) -> list[tuple[int, int]]:
    """Read the headers of many files; returns ``(height, width)`` in pixels for each.

    A thread takes many files at a time, since handing over one costs more than reading its header.
    """
    portions = [files[start : start + 256] for start in range(0, len(files), 256)]
    with ThreadPoolExecutor() as pool:
        return [
            size
            for sizes in pool.map(lambda portion: [image_size(file) for file in portion], portions)
            for size in sizes
        ]
