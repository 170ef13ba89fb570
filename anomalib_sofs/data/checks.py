"""Checks on folders and samples that several datasets share."""

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from pandas import DataFrame

from anomalib_sofs.annotations.labels import NORMAL

logger = logging.getLogger(__name__)


def refuse_escaping_links(folder: Path, root: Path) -> None:
    """Refuse symlinks below a folder that lead out of the dataset; the root itself may be a link.

    Args:
        folder: Where to look, the root or a folder in it.
        root: Folder of the dataset.

    Raises:
        ValueError: If a link leads out, naming it and its target.
    """
    home = root.resolve()
    links = [folder] if folder != root and folder.is_symlink() else []
    for where, folders, files in os.walk(folder):
        links += [path for name in (*folders, *files) if (path := Path(where, name)).is_symlink()]
    for link in links:
        target = link.resolve()
        if not target.is_relative_to(home):
            msg = f"{link} is a link to {target}, outside of {root}. Copy it there, or choose a root that holds both."
            raise ValueError(msg)


def leave_out_small_classes(samples: DataFrame, shot: int, source: Path) -> DataFrame:
    """Leave out the classes of a published benchmark that cannot give ``shot`` supports beside a query.

    Nobody can add images to a benchmark, so this warns where :func:`~anomalib_sofs.data.table.check_classes` raises.

    Args:
        samples: Samples of one category with the column ``label``.
        shot: Support images per query.
        source: What the warning names.

    Returns:
        The samples of normal images and of all other classes.
    """
    counts = samples.loc[samples["label"] != NORMAL, "label"].value_counts()
    small = counts[counts <= shot]
    if small.empty:
        return samples
    listed = ", ".join(f"{label!r} ({count})" for label, count in sorted(small.items()))
    logger.warning(
        "%s: left out classes with fewer than %d images, which %d shots need: %s.", source, shot + 1, shot, listed
    )
    return samples[~samples["label"].isin(small.index)]


def by_stem(files: Iterable[Path], suffix: str = "") -> dict[str, Path]:
    """Key files by their stem.

    Args:
        files: Files of one folder.
        suffix: End of a stem that is not part of the key, such as ``_mask``.

    Raises:
        ValueError: If two files share a stem, naming both.
    """
    found: dict[str, Path] = {}
    for file in files:
        stem = file.stem.removesuffix(suffix)
        if stem in found:
            msg = f"{found[stem]} and {file} share one stem, so masks cannot be matched. Rename or remove one of them."
            raise ValueError(msg)
        found[stem] = file
    return found


def match_masks(images: Iterable[Path], masks: Iterable[Path], mask_folder: Path) -> list[tuple[Path, Path]]:
    """Match images with masks by stem: ``name.png`` or ``name_mask.png``.

    Args:
        images: Image files.
        masks: Mask files.
        mask_folder: Where masks are expected, for messages.

    Returns:
        Pairs of image and mask.

    Raises:
        ValueError: If an image has no mask, a mask no image, or two files share a stem.
    """
    by_image, by_mask = by_stem(images), by_stem(masks, "_mask")
    # an image may itself be called name_mask
    keys = {stem: stem.removesuffix("_mask") if stem not in by_mask else stem for stem in by_image}
    for stem, image in by_image.items():
        if keys[stem] not in by_mask:
            msg = (
                f"{image} has no mask: expected {mask_folder / stem}.png or {stem}_mask.png. Add it (all black for a "
                "normal image), or remove the image."
            )
            raise ValueError(msg)
    for stem in by_mask.keys() - set(keys.values()):
        msg = f"The mask {by_mask[stem]} belongs to no image. Add the image, or remove the mask."
        raise ValueError(msg)
    return [(image, by_mask[keys[stem]]) for stem, image in sorted(by_image.items())]
