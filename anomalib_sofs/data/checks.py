"""Checks on folders and samples that several datasets share."""

import logging
import os
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
    folders, seen = [folder], set()
    if folder != root and folder.is_symlink():
        _refuse_escaping_link(folder, home, root)
    while folders:
        place = folders.pop()
        if place.resolve() in seen:
            continue
        seen.add(place.resolve())
        for where, names, files in os.walk(place):
            for link in (path for name in (*names, *files) if (path := Path(where, name)).is_symlink()):
                _refuse_escaping_link(link, home, root)
                if link.is_dir():
                    folders.append(link)


def _refuse_escaping_link(link: Path, home: Path, root: Path) -> None:
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
