"""The one reader of folders with marked images, whatever their form."""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anomalib_sofs.images import sub_folders

from . import coco, labelme, mask_folders, mvtec, yolo
from .frames import check_mask_size
from .labels import NORMAL, is_normal_name
from .marked import Drawn, Entry, Layout, Marked, Unmarked
from .masks import read_marks
from .notices import warn_once
from .places import describe, image_folder, images_of

FORMS = (
    "image/ beside mask/ (or label/), part.png beside part_mask.png, test/CLASS beside ground_truth/CLASS, COCO or "
    "LabelMe JSON, YOLO text files, or one sub-folder per class"
)


def recognise(
    folder: Path, root: Path | None = None, label: str | None = None, *, classes: bool = True
) -> Layout | None:
    """Tell in which form a folder holds marked images, from the names of its files.

    In this order: MVTec's ``ground_truth/CLASS``; ``image/`` (or ``images/``, or the folder itself) beside ``mask/``,
    ``masks/``, ``label/`` or ``labels/``; ``part_mask.png`` beside ``part.png``; COCO JSON; LabelMe JSON; YOLO text
    files; one sub-folder per class, each in one of these forms. A sub-folder ``good`` (``normal``, ``ok``) holds normal
    images, whatever the form.

    Args:
        folder: Where to look.
        root: Folder that no image may lie outside of; the folder itself by default.
        label: Class that the folder is named after; ``None`` if it is not.
        classes: Whether there may be one sub-folder per class.

    Returns:
        The form; ``None`` if nothing in the folder marks anything.
    """
    root = root or folder
    candidates = (
        mvtec.find(folder),
        mask_folders.find(folder, label),
        coco.find(folder, root),
        labelme.find(folder, root),
        yolo.find(folder, root),
    )
    found = [layout for layout in candidates if layout is not None]
    if not found and (named := labelme.find_by_name(folder, root)):
        found = [named]
    if len(found) > 1:
        warn_once(
            folder,
            "%s holds marks in several forms. Read are the %s, left out the %s. Remove what does not count.",
            folder,
            found[0].name,
            " and the ".join(layout.name for layout in found[1:]),
        )
    if not found:
        return _class_folders(folder, root) if classes else None
    return found[0] if candidates[0] else _with_normal(found[0], folder, root)


def _with_normal(layout: Layout, folder: Path, root: Path) -> Layout:
    """Add the normal images of a sub-folder ``good`` to the marked ones beside it."""
    normal = [path for path in sub_folders(folder) if is_normal_name(path.name)]
    if not normal:
        return layout
    return Layout(
        layout.name,
        lambda: [*layout.read(), *(entry for path in normal for entry in normal_entries(path, root))],
    )


def _class_folders(folder: Path, root: Path) -> Layout | None:
    if image_folder(folder) is not None:
        return None
    folders = [path for path in sub_folders(folder) if path.name.lower() != mask_folders.REJECTED]
    if not any(is_normal_name(path.name) or recognise(path, root, path.name, classes=False) for path in folders):
        return None
    return Layout("one folder per class", partial(_list_classes, folders, root))


def _list_classes(folders: list[Path], root: Path) -> list[Entry]:
    found: list[Entry] = []
    for folder in folders:
        found += normal_entries(folder, root) if is_normal_name(folder.name) else marked_entries(folder, root)
    return found


def marked_entries(folder: Path, root: Path) -> list[Entry]:
    """Read a class folder.

    Raises:
        ValueError: If nothing in it marks anything.
    """
    layout = recognise(folder, root, folder.name, classes=False)
    if layout is None:
        raise ValueError(unmarked(folder))
    return layout.read()


def normal_entries(folder: Path, root: Path) -> list[Entry]:
    """List the images of a folder of normal parts.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If something marks a defect on one of them.
    """
    layout = recognise(folder, root)
    if layout is None:
        return [Marked(image, NORMAL, None) for image in images_of(image_folder(folder) or folder)]
    images: dict[Path, None] = {}
    for entry in layout.read():
        for image, label, mask in drawn(entry):
            if mask is not None and bool((_pixels(mask) == 1).any()):
                msg = (
                    f"{image} was handed over as normal, but {_source(entry)} marks {label!r} on it. Remove the mark "
                    f"or the image, or move it out of {folder} to the marked ones."
                )
                raise ValueError(msg)
            images[image] = None
    return [Marked(image, NORMAL, None) for image in images]


def drawn(entry: Entry) -> list[Marked]:
    """Return what an entry marks; without any mark the normal image."""
    if isinstance(entry, Drawn):
        return list(entry.read())
    return [Marked(entry.image, NORMAL, None)] if isinstance(entry, Unmarked) else [entry]


def _pixels(mask: Path | NDArray[np.uint8]) -> NDArray[np.uint8]:
    return read_marks(mask) if isinstance(mask, Path) else mask


def _source(entry: Entry) -> Path:
    if isinstance(entry, Drawn):
        return entry.file
    return entry.mask if isinstance(entry, Marked) and isinstance(entry.mask, Path) else entry.image


def unmarked(folder: Path) -> str:
    """Say that nothing in a folder marks anything, and what was found there."""
    return (
        f"Nothing in {folder} marks a defect: found {describe(folder)}. Add marks ({FORMS}). If the images are normal, "
        f"put them into a folder called {NORMAL!r} or say so: normal=True, --model.support_normal true."
    )


def read_support(folder: Path, *, normal: bool = False) -> list[Marked]:
    """Read a support folder: every image with its marks.

    Args:
        folder: The folder, in any form that :func:`recognise` knows, or with normal images if it is called ``good``.
        normal: Whether all images are normal.

    Returns:
        Images, classes and masks ``(H, W)`` of {0, 1, 255}; a mask of ``None`` means a normal image.

    Raises:
        FileNotFoundError: If the folder or its images are missing.
        ValueError: If nothing is marked, on one of the images or at all, or a file is wrong.
    """
    return [marked for entry in support_entries(folder, folder, normal=normal) for marked in with_marks(entry)]


def support_entries(folder: Path, root: Path, *, normal: bool = False) -> list[Entry]:
    """List a support folder without reading its masks.

    Raises:
        FileNotFoundError: If the folder or its images are missing.
        ValueError: If nothing in it marks anything.
    """
    if not folder.is_dir():
        msg = f"The support folder {folder} does not exist. It should hold marked images: {FORMS}."
        raise FileNotFoundError(msg)
    if normal or is_normal_name(folder.absolute().name):
        return normal_entries(folder, root)
    layout = recognise(folder, root)
    if layout is None:
        images = image_folder(folder)
        if images is not None or not sub_folders(folder):
            images_of(images or folder)  # says so if there is none
        raise ValueError(unmarked(folder))
    return layout.read()


def with_marks(entry: Entry) -> list[Marked]:
    """Read the masks of an entry of a support set.

    Raises:
        ValueError: If nothing is marked on an image that is not in a folder of normal ones, or all of it is.
    """
    if isinstance(entry, Unmarked):
        msg = _empty(entry.image, f"its label file {entry.expected} does not exist")
        raise ValueError(msg)  # noqa: TRY004 - about data, not types
    if isinstance(entry, Marked):
        if entry.mask is None:
            return [entry]
        mask = _pixels(entry.mask)
        check_mask_size((mask.shape[0], mask.shape[1]), f"The mask {entry.mask}", entry.image)
        if not bool((mask == 1).any()):
            raise ValueError(_empty(entry.image, f"its mask {entry.mask} is empty ({_values(mask)})"))
        if not bool((mask == 0).any()):
            msg = (
                f"{entry.mask} marks the whole image: no background to compare with. Mark the defect only, with 0 for "
                "everything else, or use an image that shows more than the defect."
            )
            raise ValueError(msg)
        return [entry._replace(mask=mask)]
    marked = list(entry.read())
    for image, _, pixels in marked:
        if pixels is None or not bool((_pixels(pixels) == 1).any()):
            raise ValueError(_empty(image, f"{entry.file} marks nothing on it"))
    return marked


def _values(mask: NDArray[np.uint8]) -> str:
    return "only ignored pixels" if bool(mask.any()) else "every pixel is normal"


def _empty(image: Path, found: str) -> str:
    return (
        f"Nothing is marked on the support image {image}: {found}. Mark the defect. If the image is normal, move it to "
        f"a folder called {NORMAL!r} beside the others; if all are, say so: normal=True, --model.support_normal true."
    )
