"""JSON files of labelling tools: of which kind they are, read without holding long ones in memory."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

import ijson

from anomalib_sofs.images import is_hidden

Kind = Literal["coco", "labelme"]
KEYS: dict[str, Kind] = {
    "images": "coco",
    "annotations": "coco",
    "categories": "coco",
    "shapes": "labelme",
    "imagePath": "labelme",
    "imageData": "labelme",
}
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def json_files(folder: Path) -> list[Path]:
    """List the JSON files of a folder by name; hidden ones are ignored."""
    if not folder.is_dir():
        return []
    files = (file for file in folder.iterdir() if file.suffix.lower() == ".json")
    return sorted(file for file in files if not is_hidden(file))


def kind_of(file: Path) -> Kind | None:
    """Tell by the keys of its outermost object which tool's file this is; ``None`` if no known one's."""
    try:
        with file.open("rb") as opened:
            _skip_mark(opened)
            for prefix, event, value in ijson.parse(opened):
                if not prefix and event == "map_key" and value in KEYS:
                    return KEYS[value]
    except ijson.JSONError:
        return None
    return None


def first_value(file: Path, key: str) -> object:
    """Return a plain value of the outermost object, reading no further than to it; ``None`` if it is not there."""
    try:
        with file.open("rb") as opened:
            _skip_mark(opened)
            for prefix, event, value in ijson.parse(opened):
                if prefix == key and event in {"string", "number"}:
                    return value
    except ijson.JSONError:
        return None
    return None


def entries(file: Path, array: str) -> Iterator[dict]:
    """Yield the objects of an array of the outermost object, holding one of them at a time.

    Raises:
        ValueError: If the file is no JSON.
    """
    try:
        with file.open("rb") as opened:
            _skip_mark(opened)
            for entry in ijson.items(opened, f"{array}.item", use_float=True):
                if isinstance(entry, dict):
                    yield entry
    except (ijson.JSONError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        msg = f"{file} is no readable JSON ({reason}). Export it anew; NaN and Infinity are no JSON either."
        raise ValueError(msg) from error


def read_object(file: Path) -> dict:
    """Read a short file as a whole.

    Raises:
        ValueError: If it is no JSON object.
    """
    value = json.loads(file.read_text(encoding="utf-8-sig"))
    if not isinstance(value, dict):
        msg = f"it holds a {type(value).__name__}"
        raise TypeError(msg)
    return value


def _skip_mark(file: BinaryIO) -> None:
    if file.read(len(BYTE_ORDER_MARK)) != BYTE_ORDER_MARK:
        file.seek(0)
