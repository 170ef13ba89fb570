"""A LabelMe file of what was found on an image, to be corrected there."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .files import place_file, write_json
from .outlines import centre_outline, has_holes
from .regions import Region

VERSION = "5.4.1"  # of LabelMe, whose files these are like


def write_labelme(place: Path, image: Path, size: tuple[int, int], regions: Sequence[Region]) -> None:
    """Write what was found as LabelMe's polygons, or as its masks where a region has holes.

    Either gives exactly the region's pixels when it is drawn as LabelMe draws it. The image is put beside the file (a
    link where the file system can, else a copy): LabelMe pages through the folder as it is, and what was corrected
    there is a folder of supports or of training data wherever it is moved.

    Args:
        place: Folder and name of the file and of the image beside it, without suffix.
        image: The image.
        size: Height and width of the image.
        regions: What was found.
    """
    beside = place.with_name(place.name + image.suffix)
    place_file(image, beside)
    content: dict[str, Any] = {
        "version": VERSION,
        "flags": {},
        "shapes": [_shape(region) for region in regions],
        "imagePath": beside.name,
        "imageData": None,
        "imageHeight": size[0],
        "imageWidth": size[1],
    }
    write_json(content, place.with_name(f"{place.name}.json"))


def _shape(region: Region) -> dict[str, Any]:
    left, top, width, height = region.box
    shape: dict[str, Any] = {
        "label": region.defect_class,
        "group_id": None,
        "description": f"probability {region.peak:.2f}",
        "flags": {},
    }
    if not has_holes(region.mask):
        points = [[x + left, y + top] for x, y in centre_outline(region.mask)]
        return shape | {"shape_type": "polygon", "points": points, "mask": None}
    buffer = io.BytesIO()
    Image.fromarray(region.mask.astype(np.uint8) * np.uint8(255)).save(buffer, "PNG")
    corners = [[float(left), float(top)], [float(left + width - 1), float(top + height - 1)]]
    return shape | {"shape_type": "mask", "points": corners, "mask": base64.b64encode(buffer.getvalue()).decode()}
