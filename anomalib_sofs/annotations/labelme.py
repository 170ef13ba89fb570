"""LabelMe's annotation files, drawn with Pillow as LabelMe itself draws them."""

import base64
import binascii
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, UnidentifiedImageError

from anomalib_sofs.images import image_size

from .labels import NORMAL
from .mask_cache import Marked

LINE_WIDTH = 10  # pixels, LabelMe's own
POINT_RADIUS = 5  # pixels, LabelMe's own
TRIANGLE = 3


def image_of(annotations: Path, shown: dict, root: Path) -> Path:
    """Find the image of a LabelMe file.

    Raises:
        ValueError: If it does not exist or lies outside of the root.
    """
    name = str(shown.get("imagePath") or "").replace("\\", "/")
    file = annotations.parent / name
    if not name or not file.is_file():
        msg = f"{annotations} is of the image {name!r}, but {file} does not exist. Add it, or remove the JSON file."
        raise ValueError(msg)
    if not file.resolve().is_relative_to(root.resolve()):
        msg = f"{annotations} is of the image {file.resolve()}, outside of {root}. Copy it there."
        raise ValueError(msg)
    return file


def read_labelme(annotations: Path, root: Path) -> Iterator[Marked]:
    """Read a LabelMe file.

    Args:
        annotations: The JSON file.
        root: Folder that no image may lie outside of.

    Yields:
        Each class by name; a file without shapes means a normal image.

    Raises:
        ValueError: If it is no LabelMe file, its image is missing or of another size, a label is missing, or a shape is
            outside of the image or of an unknown type.
    """
    try:
        shown = json.loads(annotations.read_text(encoding="utf-8-sig"))
        shapes = shown["shapes"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        msg = f"{annotations} is no LabelMe file ({error!r}): it should be JSON with 'shapes'. Save it in LabelMe."
        raise ValueError(msg) from error
    image = image_of(annotations, shown, root)
    height, width = image_size(image)
    if (shown.get("imageHeight") or height, shown.get("imageWidth") or width) != (height, width):
        msg = (
            f"{annotations} was drawn on {shown['imageWidth']} x {shown['imageHeight']} pixels, but {image} has "
            f"{width} x {height}. Use the image that was annotated."
        )
        raise ValueError(msg)
    masks: dict[str, Image.Image] = {}
    for number, shape in enumerate(shapes):
        where = f"Shape {number} in {annotations}"
        label = shape.get("label")
        if not label or label == NORMAL:
            msg = f"{where} has the label {label!r}. Name the defect ({NORMAL!r} means normal images)."
            raise ValueError(msg)
        _draw(masks.setdefault(label, Image.new("L", (width, height))), shape, where)
    for label, drawn in sorted(masks.items()):
        yield Marked(image, label, np.asarray(drawn))
    if not masks:
        yield Marked(image, NORMAL, None)


def _draw(mask: Image.Image, shape: dict, where: str) -> None:
    points = [(float(x), float(y)) for x, y in shape.get("points", [])]
    kind = shape.get("shape_type") or "polygon"
    if kind == "mask":
        _paste(mask, shape, points, where)
        return
    xs, ys = [x for x, _ in points], [y for _, y in points]
    if not points or max(xs) < 0 or max(ys) < 0 or min(xs) > mask.width or min(ys) > mask.height:
        msg = (
            f"{where} ({shape.get('label')!r}) lies outside of its image of {mask.width} x {mask.height} pixels. "
            "Correct it in LabelMe, or remove it."
        )
        raise ValueError(msg)
    pen = ImageDraw.Draw(mask)
    if kind == "polygon" and len(points) >= TRIANGLE:
        pen.polygon(points, fill=1, outline=1)
    elif kind == "rectangle" and len(points) >= 2:  # noqa: PLR2004
        pen.rectangle([min(xs), min(ys), max(xs), max(ys)], fill=1, outline=1)
    elif kind == "circle" and len(points) == 2:  # noqa: PLR2004
        (x, y), rim = points
        radius = math.dist((x, y), rim)
        pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=1, outline=1)
    elif kind in {"line", "linestrip"}:
        pen.line(points, fill=1, width=LINE_WIDTH)
    elif kind == "point":
        ((x, y),) = points[:1]
        pen.ellipse([x - POINT_RADIUS, y - POINT_RADIUS, x + POINT_RADIUS, y + POINT_RADIUS], fill=1, outline=1)
    else:
        msg = (
            f"{where} ({shape.get('label')!r}) is a {kind!r} of {len(points)} points. Draw a polygon, rectangle, "
            "circle, line, point or mask."
        )
        raise ValueError(msg)


def _paste(mask: Image.Image, shape: dict, points: list[tuple[float, float]], where: str) -> None:
    try:
        with Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as drawn:
            part = drawn.convert("L").point(lambda value: int(value > 0))
        left, top = (int(value) for value in points[0])
    except (KeyError, IndexError, TypeError, binascii.Error, UnidentifiedImageError) as error:
        msg = f"{where} has no readable mask ({error!r}). Draw it again in LabelMe."
        raise ValueError(msg) from error
    mask.paste(1, (left, top), part.point(lambda value: value * 255))
