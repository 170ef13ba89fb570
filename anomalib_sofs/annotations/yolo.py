"""YOLO's text files of outlines, one polygon a line, as Ultralytics writes them for segmentation."""

import logging
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from pycocotools import mask as run_lengths

from anomalib_sofs.images import image_files, is_hidden, sub_folders

from .class_index import NAMES
from .frames import frame_of
from .labels import NORMAL, is_normal_name
from .marked import Drawn, Entry, Layout, Marked, Unmarked
from .outlines import encode_polygon
from .places import LABELS, image_folder, named_folders

logger = logging.getLogger(__name__)

NOT_LABELS = frozenset({NAMES, "labels.txt", "train.txt", "val.txt", "test.txt", "obj.names", "readme.txt"})
BOX = 5  # numbers in a line that tells a box: class, centre, size
TRIANGLE = 7  # numbers in the shortest line that tells a polygon: class and three corners
OVERSHOOT = 1.5  # coordinates beyond this are pixels, not shares of the image


def find(folder: Path, root: Path) -> Layout | None:
    """Find ``labels/*.txt`` beside ``images/``, both perhaps with sub-folders such as ``train``, or flat ones."""
    images = image_folder(folder)
    if images is None:
        return None
    for labels in (*named_folders(folder, *LABELS), images):
        splits = [Path(), *(path.relative_to(images) for path in sub_folders(images) if images != folder)]
        pairs = [
            (image, labels / split / f"{image.stem}.txt") for split in splits for image in image_files(images / split)
        ]
        if any(text.is_file() and text.name.lower() not in NOT_LABELS and _looks_right(text) for _, text in pairs):
            where = f" in {labels.name}/" if labels != images else ""
            return Layout(f"YOLO text files{where}", partial(_list, pairs, labels, folder, root))
    return None


def _looks_right(text: Path) -> bool:
    """Tell label files from other texts: lines of numbers, or nothing."""
    try:
        words = text.read_text(encoding="utf-8-sig").split()
        return all(np.isfinite(float(word)) for word in words)
    except ValueError:
        return False


def _list(pairs: list[tuple[Path, Path]], labels: Path, folder: Path, root: Path) -> list[Entry]:
    # a dataset with one folder per split keeps its names above them
    above = [] if folder.resolve() == root.resolve() else [folder.parent]
    names, source = read_names([folder, labels, *above])
    known = {text for _, text in pairs}
    for place in (labels, *sub_folders(labels)):
        for text in sorted(place.glob("*.txt")):
            if not is_hidden(text) and text.name.lower() not in NOT_LABELS and text not in known and _looks_right(text):
                msg = f"The label file {text} belongs to no image. Add the image, or remove the file."
                raise ValueError(msg)
    found: list[Entry] = []
    for image, text in pairs:
        if text.is_file():
            found.append(Drawn(text, partial(read_yolo, text, image, names, source), key=f"{image}{names}"))
        else:
            found.append(Unmarked(image, text))
    return found


def read_names(folders: list[Path]) -> tuple[Mapping[int, str] | None, Path]:
    """Read the class names by number, from 0 on.

    Args:
        folders: Where ``classes.txt`` (a name a line) or a YAML file with ``names`` may lie.

    Returns:
        The names, ``None`` if nobody wrote them, and the file that holds them.

    Raises:
        ValueError: If the names are no list or mapping.
    """
    for folder in folders:
        source = folder / NAMES
        if source.is_file():
            lines = [line.strip() for line in source.read_text(encoding="utf-8-sig").splitlines()]
            return {number: line for number, line in enumerate(lines) if line}, source
    for folder in folders:
        for source in sorted((*folder.glob("*.yaml"), *folder.glob("*.yml"))):
            content = None if is_hidden(source) else _read_yaml(source)
            names = content.get("names") if isinstance(content, dict) else None
            if names is None:
                continue
            try:
                pairs = names.items() if isinstance(names, dict) else enumerate(names)
                return {int(number): str(name) for number, name in pairs}, source
            except (TypeError, ValueError) as error:
                msg = f"'names' in {source} is no list and no mapping of class numbers ({error}). Correct it."
                raise ValueError(msg) from error
    return None, folders[0] / "data.yaml"


def _read_yaml(source: Path) -> object:
    try:
        return yaml.safe_load(source.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return None  # another program's


def read_yolo(text: Path, image: Path, names: Mapping[int, str] | None, source: Path) -> Iterator[Marked]:
    """Read a text file of polygons.

    Args:
        text: The file: ``CLASS x1 y1 x2 y2 ...`` a line, coordinates being shares of width and height.
        image: Its image.
        names: Class names by number; ``None`` calls them ``class_0``, ``class_1``, ...
        source: Where the names come from, for messages.

    Yields:
        Each class by number; an empty file means a normal image.

    Raises:
        ValueError: If a line is no polygon, a class has no name, or a polygon lies outside of the image.
    """
    frame = frame_of(image, None, text)
    encoded: dict[int, dict] = {}
    for number, line in enumerate(text.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        where = f"Line {number} in {text}"
        label, values = _numbers(line, where)
        corners = np.asarray(values, dtype=float).reshape(-1, 2)
        if np.abs(corners).max() > OVERSHOOT:
            msg = (
                f"{where} holds coordinates up to {np.abs(corners).max():g}, but they should be shares of width and "
                "height, 0 to 1. Export it anew."
            )
            raise ValueError(msg)
        drawn = encode_polygon(corners * (frame.width, frame.height), frame, image, where)
        encoded[label] = run_lengths.merge([encoded[label], drawn]) if label in encoded else drawn
    for label, part in sorted(encoded.items()):
        yield Marked(image, _name_of(label, names, text, source), frame.upright(run_lengths.decode(part)))
    if not encoded:
        yield Marked(image, NORMAL, None)


def _numbers(line: str, where: str) -> tuple[int, list[float]]:
    """Return class number and coordinates of a line."""
    try:
        label, *values = (float(word) for word in line.split())
    except ValueError as error:
        msg = f"{where} holds something that is no number ({error}). Export it anew."
        raise ValueError(msg) from error
    count = 1 + len(values)
    if count == BOX:
        msg = f"{where} tells a box: boxes alone are not enough. Export outlines (YOLO's segmentation format)."
        raise ValueError(msg)
    if count < TRIANGLE or count % 2 == 0 or label != int(label):
        msg = f"{where} holds {count} numbers, but a class number and x and y of three or more corners are needed."
        raise ValueError(msg)
    return int(label), values


def _name_of(number: int, names: Mapping[int, str] | None, text: Path, source: Path) -> str:
    if names is None:
        return f"class_{number}"
    if number not in names:
        listed = ", ".join(f"{known} {name}" for known, name in sorted(names.items())) or "none"
        msg = f"{text} holds class {number}, which has no name in {source}, where there are: {listed}. Add it there."
        raise ValueError(msg)
    if is_normal_name(names[number]):
        msg = f"{text} marks {names[number]!r}, which means normal images here. Rename the class in {source}."
        raise ValueError(msg)
    return names[number]
