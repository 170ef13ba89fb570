"""One COCO file of everything that was found in a run."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .files import unwritable, written_whole
from .folder import DRAFTS
from .outlines import border_outline, has_holes, run_lengths
from .regions import Region

NAME = "coco.json"


class CocoDraft:
    """What one process has found, on disk: memory stays bounded however many images there are.

    Args:
        folder: Folder of the run's results.
        rank: Number of the process.
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.folder = folder
        self.file = folder / DRAFTS / f"{rank}.jsonl"

    def add(self, entry: dict[str, Any]) -> None:
        """Add an image, see :func:`coco_entry`.

        Raises:
            UnwritableError: If it cannot be written.
        """
        try:
            self.file.parent.mkdir(exist_ok=True)
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        except OSError as error:
            raise unwritable(self.folder, error) from error


def coco_entry(
    file_name: str, size: tuple[int, int], names: Sequence[str], regions: Sequence[Region]
) -> dict[str, Any]:
    """Return an image as plain data for :class:`CocoDraft`.

    Args:
        file_name: Its name in the COCO file.
        size: Its height and width.
        names: Class names, number 1 first.
        regions: What was found.
    """
    found = [_annotation(region, size) for region in regions]
    return {"file_name": file_name, "height": size[0], "width": size[1], "names": list(names), "found": found}


def coco_name(image: Path | None, stem: Path, common: Path | None) -> str:
    """Return the ``file_name`` of an image.

    Args:
        image: The image file, if there is one.
        stem: Place of its results.
        common: Folder that holds all images.
    """
    if image is None:
        return stem.as_posix()
    absolute = image.absolute()
    if common is not None and absolute.is_relative_to(common):
        return absolute.relative_to(common).as_posix()
    return absolute.as_posix()


def clear_drafts(folder: Path) -> None:
    """Forget what a killed run has left."""
    shutil.rmtree(folder / DRAFTS, ignore_errors=True)


def write_coco(folder: Path) -> Path | None:
    """Join the drafts of all processes to ``coco.json``, in which images are ordered by name.

    ``file_name`` starts from the folder that holds all images. Each region is an annotation with ``bbox``, ``area``,
    ``score`` (its largest probability) and ``segmentation``: a polygon, or run lengths where it has holes; both give
    exactly its pixels when they are drawn. Numbers of categories are class numbers, as in the masks.

    Args:
        folder: Folder of the run's results.

    Returns:
        The file; ``None`` if no image was added.
    """
    index: list[tuple[str, Path, int]] = []
    names: dict[str, None] = {}
    for draft in sorted((folder / DRAFTS).glob("*.jsonl")):
        for offset, line in _lines(draft):
            index.append((line["file_name"], draft, offset))
            names.update(dict.fromkeys(line["names"]))
    if not index:
        return None
    index.sort()
    numbers = {name: number for number, name in enumerate(names, start=1)}
    path = folder / NAME
    with written_whole(path) as file:
        categories = [{"id": number, "name": name, "supercategory": "defect"} for name, number in numbers.items()]
        file.write(b'{"info": {"description": "Found by anomalib-sofs"},\n"licenses": [],\n"categories": ')
        file.write(_json(categories) + b',\n"images": [')
        listed = 0
        for number, line in _numbered(index):
            if number > listed:
                image = {"id": number, **{key: line[key] for key in ("file_name", "height", "width")}}
                file.write((b",\n" if listed else b"\n") + _json(image))
                listed = number
        file.write(b'],\n"annotations": [')
        count = 0
        for number, line in _numbered(index):
            for found in line["found"]:
                count += 1
                entry = {"id": count, "image_id": number, "category_id": numbers[found.pop("class")], **found}
                file.write((b",\n" if count > 1 else b"\n") + _json(entry))
        file.write(b"]}\n")
    clear_drafts(folder)
    return path


def _annotation(region: Region, size: tuple[int, int]) -> dict[str, Any]:
    left, top, width, height = region.box
    segmentation: Any
    if has_holes(region.mask):
        whole = np.zeros(size, dtype=bool)
        whole[top : top + height, left : left + width] = region.mask
        segmentation = {"size": list(size), "counts": run_lengths(whole)}
    else:
        segmentation = [[value for x, y in border_outline(region.mask) for value in (x + left, y + top)]]
    return {
        "class": region.defect_class,
        "bbox": region.box,
        "area": region.area,
        "iscrowd": 0,
        "score": region.peak,
        "segmentation": segmentation,
    }


def _lines(draft: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with draft.open("rb") as file:
        offset = 0
        for line in file:
            yield offset, json.loads(line)
            offset += len(line)


def _numbered(index: list[tuple[str, Path, int]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read what was added, with the number of its image: episodes show one image once per class."""
    number, before = 0, ""
    for name, draft, offset in index:
        number, before = number + (name != before), name
        with draft.open("rb") as file:
            file.seek(offset)
            yield number, json.loads(file.readline())


def _json(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode()
