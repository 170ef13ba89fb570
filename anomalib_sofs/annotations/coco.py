"""COCO annotations of any length: read entry by entry, drawn with pycocotools."""

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as run_lengths

from anomalib_sofs.images import image_files, sub_folders

from .frames import Frame, frame_of
from .json_files import entries, json_files, kind_of
from .labels import NORMAL, is_normal_name
from .marked import Drawn, Entry, Layout, Marked
from .outlines import encode_polygon
from .places import image_folder, named_folders

logger = logging.getLogger(__name__)

TRIANGLE = 6  # numbers in the smallest polygon
INSTANCES = "instances_"  # how COCO and CVAT name the files with outlines, others hold captions or key points


class Listed(NamedTuple):
    """An image that a COCO file lists."""

    file: Path
    frame: Frame


def find(folder: Path, root: Path) -> Layout | None:
    """Find COCO files: beside the images, beside their folder, or in ``annotations/`` as CVAT and COCO lay them out."""
    images = image_folder(folder)
    for place in (folder, *named_folders(folder, "annotations", "annotation"), *([images] if images else [])):
        files = [file for file in json_files(place) if kind_of(file) == "coco"]
        chosen = [file for file in files if file.name.startswith(INSTANCES)] or files
        if chosen:
            homes = [place] if place in {images, folder} and image_files(place) else []
            homes += [*([images] if images else []), folder]
            names = ", ".join(str(file.relative_to(folder)) for file in chosen)
            return Layout(f"COCO ({names})", partial(_list, chosen, list(dict.fromkeys(homes)), root))
    return None


def _list(files: list[Path], homes: list[Path], root: Path) -> list[Entry]:
    listed: dict[Path, Path] = {}
    found: list[Entry] = []
    for file in files:
        places = [*homes, *(home / subset for home in homes if (subset := _subset(file)) and (home / subset).is_dir())]
        for entry in entries(file, "images"):
            image = _locate(str(entry.get("file_name") or ""), places).resolve()
            if image in listed:
                msg = f"{image} is listed twice: in {listed[image]} and in {file}. Remove one entry."
                raise ValueError(msg)
            listed[image] = file
        found.append(Drawn(file, partial(read_coco, file, places[0], root, places[1:]), key=str(homes[0])))
    everything = [file for home in homes for file in (home, *sub_folders(home)) for file in image_files(file)]
    left_out = [image for image in dict.fromkeys(everything) if image.resolve() not in listed]
    if left_out:
        logger.warning(
            "%d images are not listed in %s and are left out, the first of them %s. Add them there, or remove them.",
            len(left_out),
            ", ".join(map(str, files)),
            left_out[0],
        )
    return found


def _subset(file: Path) -> str:
    """Return the part of the data that a file is of: ``default`` of CVAT's ``instances_default.json``."""
    return file.stem.removeprefix(INSTANCES) if file.stem.startswith(INSTANCES) else ""


def _locate(name: str, places: Sequence[Path]) -> Path:
    """Return the first of the places that holds a file, or where it should be."""
    name = name.replace("\\", "/")
    return next((place / name for place in places if (place / name).is_file()), places[0] / name)


def read_coco(annotations: Path, images: Path, root: Path, others: Sequence[Path] = ()) -> Iterator[Marked]:
    """Read a COCO file.

    Memory is bounded by one run-length encoding per image and class, whatever the length of the file: its entries are
    read one at a time and drawn into these at once.

    Args:
        annotations: The JSON file.
        images: Folder that its file names start from.
        root: Folder that no image may lie outside of.
        others: Folders that are looked into for images that are not there.

    Yields:
        Each class of each image, by file name; an image without annotations is normal. Polygons that reach beyond the
        image are cut off, and those smaller than a pixel mark the pixel they lie in.

    Raises:
        ValueError: If the file is no COCO file, lists a missing image or one of another size, or an annotation has no
            known class or image, no segmentation, or lies outside its image.
    """
    listed = _listed(annotations, (images, *others), root)
    names = {entry.get("id"): str(entry.get("name")) for entry in entries(annotations, "categories")}
    encoded: dict[tuple[Any, str], dict] = {}
    for entry in entries(annotations, "annotations"):
        image = listed.get(entry.get("image_id"))
        where = f"Annotation {entry.get('id')} in {annotations}"
        if image is None:
            msg = f"{where} is of image id {entry.get('image_id')}, which is not listed. Remove it, or list the image."
            raise ValueError(msg)
        label = _name_of(entry, names, where)
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


def _name_of(entry: dict, names: dict[Any, str], where: str) -> str:
    label = names.get(entry.get("category_id"))
    if label is None:
        msg = (
            f"{where} has class id {entry.get('category_id')}, which has no name. Add it to 'categories', where "
            f"there are: {', '.join(f'{number} {name}' for number, name in names.items()) or 'none'}."
        )
        raise ValueError(msg)
    if is_normal_name(label):
        msg = f"{where} is of the class {label!r}, which means normal images here. Rename the class, or remove it."
        raise ValueError(msg)
    return label


def _listed(annotations: Path, places: Sequence[Path], root: Path) -> dict[Any, Listed]:
    """Read which images there are."""
    listed: dict[Any, Listed] = {}
    for entry in entries(annotations, "images"):
        if "file_name" not in entry:
            msg = f"{annotations} lists an image (id {entry.get('id')}) without file_name. Export it anew."
            raise ValueError(msg)
        name = str(entry["file_name"])
        file = _locate(name, places)
        if not file.resolve().is_relative_to(root.resolve()):
            msg = f"{annotations} lists {name}, which is {file.resolve()}, outside of {root}. Copy it there."
            raise ValueError(msg)
        if not file.is_file():
            msg = f"{annotations} lists {name}, but {file} does not exist. Add the image, or remove its entry."
            raise ValueError(msg)
        size = entry.get("height"), entry.get("width")
        declared = None if None in size else (int(size[0]), int(size[1]))  # type: ignore[arg-type]
        listed[entry.get("id")] = Listed(file, frame_of(file, declared, f"{annotations} says that {name} has"))
    if not listed:
        msg = f"{annotations} lists no images. A COCO file holds 'images', 'annotations' and 'categories'."
        raise ValueError(msg)
    return listed


def _run_lengths(segmentation: Any, image: Listed, where: str) -> Iterator[dict]:  # noqa: ANN401
    """Encode a segmentation, whichever of COCO's three forms it has."""
    if not segmentation:
        msg = f"{where} has no segmentation. Draw its outline, or remove it: boxes alone are not enough."
        raise ValueError(msg)
    if isinstance(segmentation, dict):
        yield _checked_run_lengths(segmentation, image.frame, where)
        return
    for polygon in segmentation if isinstance(segmentation[0], list) else [segmentation]:
        if len(polygon) < TRIANGLE or len(polygon) % 2:
            logger.warning("%s: left out a polygon of %d numbers, which encloses nothing.", where, len(polygon))
            continue
        yield encode_polygon(np.asarray(polygon, dtype=float).reshape(-1, 2), image.frame, image.file, where)


def _checked_run_lengths(segmentation: dict, frame: Frame, where: str) -> dict:
    size, counts = list(segmentation.get("size", [])), segmentation.get("counts")
    wanted = [frame.height, frame.width]
    if size != wanted:
        msg = f"{where} has a mask of size {size}, its image {wanted} (height, width). Annotate it anew."
        raise ValueError(msg)
    if not isinstance(counts, list):
        return segmentation
    if sum(counts) != frame.height * frame.width:
        msg = (
            f"{where} has run lengths for {sum(counts)} pixels, its image {frame.height * frame.width}. Export it anew."
        )
        raise ValueError(msg)
    return run_lengths.frPyObjects(segmentation, frame.height, frame.width)


def _decode(encoded: dict, annotations: Path, image: Listed) -> NDArray[np.uint8]:
    try:
        return image.frame.upright(run_lengths.decode(encoded))
    except (ValueError, TypeError) as error:
        msg = f"{annotations} has broken run lengths for {image.file.name} ({error}). Export it anew."
        raise ValueError(msg) from error
