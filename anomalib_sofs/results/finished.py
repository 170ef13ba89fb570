"""Results that lie there already: a run that is started again takes up what it has not finished.

The JSON of an image is written last, so where it is, its mask and map are, too. Its ``source`` tells whether they are
what a run would make: the state of the image file, and the bundle.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import Timeout
from PIL import Image

from .coco_file import NAME as COCO
from .coco_file import CocoDraft, clear_drafts, coco_entry, coco_name, write_coco
from .folder import LABELME, MARKER, is_results_folder, lock_of
from .names import common_folder
from .regions import find_regions


def file_state(file: Path) -> dict[str, Any]:
    """Return what tells whether a file has changed."""
    state = file.stat()
    return {"bytes": state.st_size, "changed": state.st_mtime_ns}


def finished(folder: Path, stem: Path, image: str, source: Mapping[str, Any], file_name: str) -> dict[str, Any] | None:
    """Return what an earlier run has found on an image, if this run would find the same.

    Args:
        folder: Folder of the results.
        stem: Place of the image's results in it.
        image: The image as its JSON calls it.
        source: State of the image file, and the bundle.
        file_name: Its name in ``coco.json``.

    Returns:
        The image in ``coco.json``, see :func:`.coco_file.coco_entry`; ``None`` if it has to be searched.
    """
    record = _record(folder, stem)
    if record is None or record["image"] != image or record.get("source") != dict(source):
        return None
    return _entry(record, folder, stem, file_name)


def rebuild_coco(folder: Path) -> tuple[Path, int]:
    """Write ``coco.json`` of a folder of results from the masks and JSON files in it.

    Returns:
        The file, and how many images it tells of.

    Raises:
        FileNotFoundError: If it holds no results.
        UnwritableError: If it cannot be written.
        ValueError: If a run writes there.
    """
    if not is_results_folder(folder):
        below = sorted(folder.iterdir()) if folder.is_dir() else []
        there = ", ".join(str(path) for path in below if is_results_folder(path))
        msg = f"{folder} is no folder of results{f'; these are: {there}' if there else ''}."
        raise FileNotFoundError(msg)
    lock = lock_of(folder)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        msg = f"Another process writes to {folder}, and its {COCO} when it is done."
        raise ValueError(msg) from error
    try:
        return _rebuild(folder)
    finally:
        lock.release()


def _rebuild(folder: Path) -> tuple[Path, int]:
    marked = (folder / MARKER).stat().st_mtime_ns
    clear_drafts(folder)
    images = [record["image"] for _, record in _records(folder) if record["image"]]
    common = common_folder(images) if images else None
    draft, count = CocoDraft(folder), 0
    for stem, record in _records(folder):
        name = coco_name(Path(record["image"]) if record["image"] else None, stem, common)
        entry = _entry(record, folder, stem, name)
        if entry is not None:
            draft.add(entry)
            count += 1
    path = write_coco(folder)
    if path is None:
        msg = f"{folder} holds no results of an image yet."
        raise FileNotFoundError(msg)
    # the marker's time stays: whatever is newer was changed by somebody, and this file is not
    os.utime(path, ns=(marked, marked))
    return path, count


def _records(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for file in sorted(folder.rglob("*.json")):
        stem = file.relative_to(folder).with_suffix("")
        if stem.parts[0] != LABELME and (record := _record(folder, stem)) is not None:
            yield stem, record


def _record(folder: Path, stem: Path) -> dict[str, Any] | None:
    """Read the JSON of an image; ``None`` if there is none."""
    try:
        record = json.loads((folder / f"{stem}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and {"image", "classes", "regions", "height"} <= set(record) else None


def _entry(record: Mapping[str, Any], folder: Path, stem: Path, file_name: str) -> dict[str, Any] | None:
    """Make an image's part of ``coco.json`` from its files; ``None`` if the mask is missing or another one."""
    try:
        with Image.open(folder / f"{stem}_mask.png") as mask:
            classes = np.asarray(mask)
    except (OSError, ValueError, SyntaxError):
        return None
    size = (classes.shape[0], classes.shape[1])
    told = record["regions"]
    found = find_regions(classes, np.zeros(size, dtype=np.float32), record["classes"])
    if [region.area for region in found] != [region["area_pixels"] for region in told]:
        return None
    regions = [region._replace(peak=one["peak_probability"]) for region, one in zip(found, told, strict=True)]
    return coco_entry(file_name, size, record["classes"], regions)
