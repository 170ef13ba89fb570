"""MVTec AD's layout: ``test/CLASS`` and ``ground_truth/CLASS``."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

from anomalib_sofs.images import image_files, sub_folders

from .labels import NORMAL, is_normal_name
from .marked import Entry, Layout, Marked
from .mask_folders import entries_of, match_masks
from .places import images_of, named_folders

TEST, MASKS = "test", "ground_truth"


class ClassFolder(NamedTuple):
    """The test images of one class."""

    label: str
    """The folder's name; ``good`` for normal images, however their folder is called."""
    images: Path
    masks: Path | None
    """``None`` for normal images."""


def find(folder: Path) -> Layout | None:
    """Find ``ground_truth/CLASS``, with its images in ``test/CLASS`` or ``CLASS``."""
    masks = named_folders(folder, MASKS)
    if not masks or not sub_folders(masks[0]):
        return None
    return Layout(f"masks in {MASKS}/CLASS/", partial(_list, folder))


def class_folders(category: Path) -> list[ClassFolder]:
    """List the classes of a category by name, normal ones last.

    Raises:
        ValueError: If there are masks of a class, but no folder with its images.
    """
    (masks, *_) = named_folders(category, MASKS) or [category / MASKS]
    marked = {path.name: path for path in sub_folders(masks) if not is_normal_name(path.name)}
    (source, *_) = named_folders(category, TEST) or [category]
    folders = sub_folders(source)
    if source == category:
        folders = [path for path in folders if path.name in marked or is_normal_name(path.name)]
    missing = marked.keys() - {path.name for path in folders}
    if missing:
        name = min(missing)
        msg = f"{marked[name]} holds masks, but there is no folder {source / name} with their images. Add it."
        raise FileNotFoundError(msg)
    classes = [
        ClassFolder(path.name, path, marked.get(path.name, masks / path.name))
        for path in folders
        if not is_normal_name(path.name)
    ]
    return classes + [ClassFolder(NORMAL, path, None) for path in folders if is_normal_name(path.name)]


def pairs_of(folder: ClassFolder) -> list[tuple[Path, Path]]:
    """Match the images of a class with their masks.

    Raises:
        ValueError: If an image has no mask or a mask no image, or two share a stem, naming the files.
    """
    assert folder.masks is not None  # noqa: S101 - normal images have none
    return match_masks(images_of(folder.images), image_files(folder.masks), folder.masks)


def _list(category: Path) -> list[Entry]:
    found: list[Entry] = []
    for folder in class_folders(category):
        if folder.masks is None:
            found += [Marked(image, NORMAL, None) for image in images_of(folder.images)]
        else:
            found += entries_of(pairs_of(folder), None, folder.label)
    return found
