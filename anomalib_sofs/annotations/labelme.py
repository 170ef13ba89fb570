"""LabelMe's annotation files, drawn with Pillow as LabelMe itself draws them."""

import base64
import binascii
import io
import json
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, UnidentifiedImageError

from anomalib_sofs.images import image_files

from .class_index import BACKGROUND, IGNORED_CLASS
from .frames import frame_of
from .json_files import first_value, json_files, kind_of, read_object
from .labels import IGNORE, NORMAL, is_normal_name
from .marked import Drawn, Entry, Layout, Marked
from .places import LABELS, image_folder, named_folders

LINE_WIDTH = 10  # pixels, LabelMe's own
POINT_RADIUS = 5  # pixels, LabelMe's own
TRIANGLE = 3
QUADRILATERAL = 4
PLACES = (*LABELS, "json", "jsons", "annotation", "annotations")


def find(folder: Path, root: Path) -> Layout | None:
    """Find LabelMe files: beside the images, or in a folder of their own beside the images' folder."""
    return _find(folder, root, lambda file, _: kind_of(file) == "labelme")


def find_by_name(folder: Path, root: Path) -> Layout | None:
    """Find JSON files called as the images beside them: LabelMe's if nothing else is known of the folder."""
    return _find(folder, root, lambda file, stems: file.stem in stems)


def _find(folder: Path, root: Path, belongs: Callable[[Path, set[str]], bool]) -> Layout | None:
    images = image_folder(folder)
    if images is None:
        return None
    stems = {image.stem for image in image_files(images)}
    for place in dict.fromkeys((images, folder, *named_folders(folder, *PLACES))):
        files = json_files(place)
        if any(belongs(file, stems) for file in files):
            chosen = [file for file in files if file.stem in stems or kind_of(file) == "labelme"]
            where = f" in {place.name}/" if place != images else ""
            return Layout(f"LabelMe files{where}", partial(_list, chosen, images, root))
    return None


def _list(files: list[Path], images: Path, root: Path) -> list[Entry]:
    found: list[Entry] = []
    labelled: set[Path] = set()
    for file in files:
        # which image a file is of stands in the file, before the long rest of it
        name = first_value(file, "imagePath") or _read(file).get("imagePath")
        labelled.add(image_of(file, name, root, images).resolve())
        found.append(Drawn(file, partial(read_labelme, file, root, images)))
    for image in image_files(images):
        if image.resolve() not in labelled:
            msg = (
                f"{image} has no LabelMe file: expected {files[0].parent / image.stem}.json. Save it in LabelMe "
                "(without shapes if it is normal), or remove the image."
            )
            raise ValueError(msg)
    return found


def image_of(annotations: Path, written: object, root: Path, images: Path | None = None) -> Path:
    """Find the image of a LabelMe file.

    Args:
        annotations: The JSON file.
        written: The path in it, relative to the file.
        root: Folder that no image may lie outside of.
        images: Folder that is looked into if the image is not where the file says.

    Raises:
        ValueError: If it does not exist or lies outside of the root.
    """
    name = str(written or "").replace("\\", "/")
    file = annotations.parent / name
    if images is not None and not file.is_file() and (images / Path(name).name).is_file():
        file = images / Path(name).name
    if not name or not file.is_file():
        msg = f"{annotations} is of the image {name!r}, but {file} does not exist. Add it, or remove the JSON file."
        raise ValueError(msg)
    if not file.resolve().is_relative_to(root.resolve()):
        msg = f"{annotations} is of the image {file.resolve()}, outside of {root}. Copy it there."
        raise ValueError(msg)
    return file


def _read(annotations: Path) -> dict:
    try:
        shown = read_object(annotations)
        list(shown["shapes"])
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        msg = f"{annotations} is no LabelMe file ({error!r}): it should be JSON with 'shapes'. Save it in LabelMe."
        raise ValueError(msg) from error
    return shown


def read_labelme(annotations: Path, root: Path, images: Path | None = None) -> Iterator[Marked]:
    """Read a LabelMe file.

    Shapes labelled ``__ignore__`` are pixels to be ignored, those labelled ``_background_`` are normal; where shapes
    overlap, the later one counts for these two.

    Args:
        annotations: The JSON file.
        root: Folder that no image may lie outside of.
        images: Folder that is looked into if the image is not where the file says.

    Yields:
        Each class by name; a file without shapes means a normal image.

    Raises:
        ValueError: If it is no LabelMe file, its image is missing or of another size, a label is missing, or a shape is
            outside of the image or of an unknown type.
    """
    shown = _read(annotations)
    image = image_of(annotations, shown.get("imagePath"), root, images)
    size = shown.get("imageHeight"), shown.get("imageWidth")
    declared = (int(size[0]), int(size[1])) if size[0] and size[1] else None
    frame = frame_of(image, declared, f"{annotations} was drawn on")
    ignored = Image.new("L", (frame.width, frame.height))
    masks: dict[str, Image.Image] = {}
    for number, shape in enumerate(shown["shapes"]):
        where = f"Shape {number} in {annotations}"
        label = _label_of(shape, where)
        if label == IGNORED_CLASS:
            _draw(ignored, shape, where)
            continue
        _draw(ignored, shape, where, fill=0)
        if label in BACKGROUND:
            for mask in masks.values():
                _draw(mask, shape, where, fill=0)
            continue
        _draw(masks.setdefault(label, Image.new("L", ignored.size)), shape, where)
    out = np.asarray(ignored) > 0
    normal = True
    for label, drawn in sorted(masks.items()):
        marks = np.where(out, np.uint8(IGNORE), np.asarray(drawn))
        if bool((marks == 1).any()):
            normal = False
            yield Marked(image, label, frame.upright(marks))
    if normal:
        yield Marked(image, NORMAL, frame.upright(out * np.uint8(IGNORE)) if bool(out.any()) else None)


def _label_of(shape: dict, where: str) -> str:
    label = shape.get("label")
    label = "" if label is None else str(label)
    if not label or is_normal_name(label):
        msg = f"{where} has the label {label!r}. Name the defect ({NORMAL!r} and the like mean normal images)."
        raise ValueError(msg)
    return label


def _draw(mask: Image.Image, shape: dict, where: str, fill: int = 1) -> None:
    points = [(float(x), float(y)) for x, y in shape.get("points", [])]
    kind = shape.get("shape_type") or "polygon"
    if kind == "mask":
        _paste(mask, shape, points, where, fill)
        return
    xs, ys = [x for x, _ in points], [y for _, y in points]
    if not points or max(xs) < 0 or max(ys) < 0 or min(xs) > mask.width or min(ys) > mask.height:
        msg = (
            f"{where} ({shape.get('label')!r}) lies outside of its image of {mask.width} x {mask.height} pixels. "
            "Correct it in LabelMe, or remove it."
        )
        raise ValueError(msg)
    pen = ImageDraw.Draw(mask)
    if (kind == "polygon" and len(points) >= TRIANGLE) or (
        kind == "oriented_rectangle" and len(points) == QUADRILATERAL
    ):
        pen.polygon(points, fill=fill, outline=fill)
    elif kind == "rectangle" and len(points) >= 2:  # noqa: PLR2004
        pen.rectangle([min(xs), min(ys), max(xs), max(ys)], fill=fill, outline=fill)
    elif kind == "circle" and len(points) == 2:  # noqa: PLR2004
        (x, y), rim = points
        radius = math.dist((x, y), rim)
        pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=fill, outline=fill)
    elif kind in {"line", "linestrip"}:
        pen.line(points, fill=fill, width=LINE_WIDTH)
    elif kind == "point":
        ((x, y),) = points[:1]
        pen.ellipse([x - POINT_RADIUS, y - POINT_RADIUS, x + POINT_RADIUS, y + POINT_RADIUS], fill=fill, outline=fill)
    else:
        msg = (
            f"{where} ({shape.get('label')!r}) is a {kind!r} of {len(points)} points. Draw a polygon, rectangle, "
            "circle, line, point or mask."
        )
        raise ValueError(msg)


def _paste(mask: Image.Image, shape: dict, points: list[tuple[float, float]], where: str, fill: int) -> None:
    try:
        with Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as drawn:
            part = drawn.convert("L").point(lambda value: 255 * (value > 0))
        left, top = (int(value) for value in points[0])
    except (KeyError, IndexError, TypeError, binascii.Error, UnidentifiedImageError) as error:
        msg = f"{where} has no readable mask ({error!r}). Draw it again in LabelMe."
        raise ValueError(msg) from error
    mask.paste(fill, (left, top), part)
