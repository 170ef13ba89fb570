"""COCO annotations of any length: read entry by entry, drawn with pycocotools."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from pycocotools import mask as run_lengths

from anomalib_sofs.images import image_size

from .labels import NORMAL
from .mask_cache import Marked

logger = logging.getLogger(__name__)

CHUNK = 1 << 20  # characters read at a time
SLACK = 2  # pixels by which labelling tools overshoot an image's border
TRIANGLE = 6  # numbers in the smallest polygon


class Listed(NamedTuple):
    """An image that a COCO file lists."""

    file: Path
    height: int
    width: int


def read_coco(annotations: Path, images: Path, root: Path) -> Iterator[Marked]:
    """Read a COCO file.

    Memory is bounded by one run-length encoding per image and class, whatever the length of the file: its entries are
    read one at a time and drawn into these at once.

    Args:
        annotations: The JSON file.
        images: Folder that its file names start from.
        root: Folder that no image may lie outside of.

    Yields:
        Each class of each image, by file name; an image without annotations is normal. Polygons that reach beyond the
        image are cut off, and those smaller than a pixel mark the pixel they lie in.

    Raises:
        ValueError: If the file is no COCO file, lists a missing image or one of another size, or an annotation has no
            known class or image, no segmentation, or lies outside its image.
    """
    listed, names = _listed(annotations, images, root)
    encoded: dict[tuple[Any, str], dict] = {}
    for _, entry in _entries(annotations, "annotations"):
        image = listed.get(entry.get("image_id"))
        where = f"Annotation {entry.get('id')} in {annotations}"
        if image is None:
            msg = f"{where} is of image id {entry.get('image_id')}, which is not listed. Remove it, or list the image."
            raise ValueError(msg)
        label = names.get(entry.get("category_id"))
        if label is None:
            msg = (
                f"{where} has class id {entry.get('category_id')}, which has no name. Add it to 'categories', where "
                f"there are: {', '.join(f'{number} {name}' for number, name in names.items()) or 'none'}."
            )
            raise ValueError(msg)
        where += f" ({image.file.name})"
        for part in _run_lengths(entry.get("segmentation"), image, where):
            key = entry["image_id"], label
            encoded[key] = run_lengths.merge([encoded[key], part]) if key in encoded else part
    labels: dict[Any, list[str]] = {}
    for number, label in encoded:
        labels.setdefault(number, []).append(label)
    for number, image in sorted(listed.items(), key=lambda item: item[1].file.name):
        if number not in labels:
            yield Marked(image.file, NORMAL, None)
        for label in sorted(labels.get(number, [])):
            yield Marked(image.file, label, _decode(encoded[number, label], annotations, image))


def _listed(annotations: Path, images: Path, root: Path) -> tuple[dict[Any, Listed], dict[Any, str]]:
    """Read which images and classes there are."""
    listed: dict[Any, Listed] = {}
    names: dict[Any, str] = {}
    for array, entry in _entries(annotations, "images", "categories"):
        if array == "categories":
            names[entry.get("id")] = str(entry.get("name"))
            continue
        if "file_name" not in entry:
            msg = f"{annotations} lists an image (id {entry.get('id')}) without file_name. Export it anew."
            raise ValueError(msg)
        name = entry["file_name"]
        file = images / name
        if not file.resolve().is_relative_to(root.resolve()):
            msg = f"{annotations} lists {name}, which is {file.resolve()}, outside of {root}. Copy it there."
            raise ValueError(msg)
        if not file.is_file():
            msg = f"{annotations} lists {name}, but {file} does not exist. Add the image, or remove its entry."
            raise ValueError(msg)
        height, width = image_size(file)
        if (entry.get("height", height), entry.get("width", width)) != (height, width):
            msg = (
                f"{annotations} says that {name} has {entry.get('width')} x {entry.get('height')} pixels, but {file} "
                f"has {width} x {height}. Use the image that was annotated, or correct the entry."
            )
            raise ValueError(msg)
        listed[entry.get("id")] = Listed(file, height, width)
    if not listed:
        msg = f"{annotations} lists no images. A COCO file holds 'images', 'annotations' and 'categories'."
        raise ValueError(msg)
    if NORMAL in names.values():
        msg = f"{annotations} has a class called {NORMAL!r}, which means normal images here. Rename it."
        raise ValueError(msg)
    return listed, names


def _run_lengths(segmentation: Any, image: Listed, where: str) -> Iterator[dict]:  # noqa: ANN401
    """Encode a segmentation, whichever of COCO's three forms it has."""
    if not segmentation:
        msg = f"{where} has no segmentation. Draw its outline, or remove it: boxes alone are not enough."
        raise ValueError(msg)
    if isinstance(segmentation, dict):
        yield _checked_run_lengths(segmentation, image, where)
        return
    for polygon in segmentation if isinstance(segmentation[0], list) else [segmentation]:
        if len(polygon) < TRIANGLE or len(polygon) % 2:
            logger.warning("%s: left out a polygon of %d numbers, which encloses nothing.", where, len(polygon))
            continue
        yield _polygon(np.asarray(polygon, dtype=float).reshape(-1, 2), image, where)


def _checked_run_lengths(segmentation: dict, image: Listed, where: str) -> dict:
    size, counts = list(segmentation.get("size", [])), segmentation.get("counts")
    if size != [image.height, image.width]:
        wanted = [image.height, image.width]
        msg = f"{where} has a mask of size {size}, its image {wanted} (height, width). Annotate it anew."
        raise ValueError(msg)
    if not isinstance(counts, list):
        return segmentation
    if sum(counts) != image.height * image.width:
        msg = (
            f"{where} has run lengths for {sum(counts)} pixels, its image {image.height * image.width}. Export it anew."
        )
        raise ValueError(msg)
    return run_lengths.frPyObjects(segmentation, image.height, image.width)


def _polygon(points: np.ndarray, image: Listed, where: str) -> dict:
    size = np.array([image.width, image.height])
    low, high = points.min(axis=0), points.max(axis=0)
    if (high < 0).any() or (low > size).any():
        msg = (
            f"{where} has a polygon outside of the image: x {low[0]:g} to {high[0]:g}, y {low[1]:g} to {high[1]:g}, "
            f"but {image.file} has {image.width} x {image.height} pixels. Use the annotated image, or correct it."
        )
        raise ValueError(msg)
    if (low < -SLACK).any() or (high > size + SLACK).any():
        logger.warning("%s: cut off a polygon that reaches beyond the image.", where)
    (drawn,) = run_lengths.frPyObjects([points.flatten().tolist()], image.height, image.width)
    if run_lengths.area(drawn):
        return drawn
    x, y = np.clip(points.mean(axis=0), 0, size - 1).astype(int)
    pixel = np.zeros((image.height, image.width), dtype=np.uint8, order="F")
    pixel[y, x] = 1
    return run_lengths.encode(pixel)


def _decode(encoded: dict, annotations: Path, image: Listed) -> np.ndarray:
    try:
        return run_lengths.decode(encoded)
    except (ValueError, TypeError) as error:
        msg = f"{annotations} has broken run lengths for {image.file.name} ({error}). Export it anew."
        raise ValueError(msg) from error


def _entries(path: Path, *arrays: str) -> Iterator[tuple[str, dict]]:
    """Yield name and entry of the entries of some top-level arrays of a JSON file, holding one entry at a time."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from _Reader(file).entries(arrays)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        msg = f"{path} is no readable JSON ({error}). Export it anew."
        raise ValueError(msg) from error


class _Reader:
    """A JSON object in a file, of which only a part is in memory."""

    def __init__(self, file: TextIO) -> None:
        self.file = file
        self.text = ""
        self.position = 0
        self.decoder = json.JSONDecoder()

    def entries(self, arrays: tuple[str, ...]) -> Iterator[tuple[str, dict]]:
        self._take("{")
        while self._peek() != "}":
            key = self._value()
            self._take(":")
            if self._peek() == "[":
                self._take("[")
                while self._peek() != "]":
                    entry = self._value()
                    if key in arrays and isinstance(entry, dict):
                        yield key, entry
                    self._skip_comma("]")
                self._take("]")
            else:
                self._value()
            self._skip_comma("}")

    def _more(self) -> bool:
        rest = self.text[self.position :]
        # twice as much each time, so that a huge entry is not scanned over and over
        chunk = self.file.read(max(CHUNK, len(rest)))
        self.text, self.position = rest + chunk, 0
        return bool(chunk)

    def _peek(self) -> str:
        while True:
            while self.position < len(self.text):
                if not self.text[self.position].isspace():
                    return self.text[self.position]
                self.position += 1
            if not self._more():
                return ""

    def _take(self, expected: str) -> None:
        if self._peek() != expected:
            msg = f"expected {expected!r}"
            raise json.JSONDecodeError(msg, self.text, self.position)
        self.position += 1

    def _skip_comma(self, end: str) -> None:
        if self._peek() != end:
            self._take(",")

    def _value(self) -> Any:  # noqa: ANN401
        self._peek()
        while True:
            try:
                value, end = self.decoder.raw_decode(self.text, self.position)
            except json.JSONDecodeError:
                if not self._more():
                    raise
                continue
            if end < len(self.text):
                self.position = end
                return value
            # a number at the end of the chunk may go on in the next one
            if not self._more():
                self.position = len(self.text)
                return value
