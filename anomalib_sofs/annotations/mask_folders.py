"""Masks as image files: in a folder beside the images, or beside each image."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from anomalib_sofs.images import image_files

from .class_index import NAMES, names_of, read_class_index
from .labels import DEFECT, NORMAL
from .marked import Drawn, Entry, Layout, Marked
from .places import LABELS, MASKS, image_folder, images_of, named_folders

SUFFIX = "_mask"
REJECTED = "not"
"""Folder of masks of rejected regions, see :mod:`.rejected`."""


def find(folder: Path, label: str | None) -> Layout | None:
    """Find ``mask(s)/`` or ``label(s)/`` beside the images, or ``part_mask.png`` beside ``part.png``.

    Args:
        folder: Where to look.
        label: Class that the folder is named after; ``None`` if it is not.
    """
    images = image_folder(folder)
    if images is None:
        return None
    # labels/ may hold text or JSON files instead
    masks = [path for path in named_folders(folder, *MASKS, *LABELS) if image_files(path)]
    masks += [path for path in named_folders(folder, *MASKS) if not any(path.iterdir())]
    if masks:
        form = f"masks in {masks[0].name}/"
        return Layout(form, partial(_list_folders, images, masks[0], folder / NAMES, label))
    files = image_files(images)
    stems = {file.stem for file in files}
    if any(_is_mask(file, stems) for file in files):
        form = f"masks called NAME{SUFFIX}"
        return Layout(form, partial(_list_beside, images, folder / NAMES, label))
    return None


def _is_mask(file: Path, stems: set[str]) -> bool:
    return file.stem.endswith(SUFFIX) and file.stem.removesuffix(SUFFIX) in stems


def _list_folders(images: Path, masks: Path, names: Path, label: str | None) -> list[Entry]:
    files, marks = images_of(images), image_files(masks)
    marked = by_stem(marks, SUFFIX)
    rejected = by_stem((file for path in named_folders(masks.parent, REJECTED) for file in image_files(path)), SUFFIX)
    # an image of which regions were rejected, and nothing is marked, is a normal one
    normal = [file for file in files if file.stem in rejected.keys() - marked.keys()]
    pairs = match_masks([file for file in files if file not in normal], marks, masks)
    return [*entries_of(pairs, names, label), *(Marked(file, NORMAL, None) for file in normal)]


def _list_beside(folder: Path, names: Path, label: str | None) -> list[Entry]:
    files = image_files(folder)
    masks = [file for file in files if file.stem.endswith(SUFFIX)]
    return entries_of(match_masks([file for file in files if file not in masks], masks, folder), names, label)


def entries_of(pairs: list[tuple[Path, Path]], names: Path | None, label: str | None) -> list[Entry]:
    """Tell what the masks of a folder mean: marked or not, or class numbers.

    Args:
        pairs: Images and their masks.
        names: The file ``classes.txt``, which need not exist; ``None`` where none belongs.
        label: Class that the folder is named after; ``None`` if it is not.
    """
    numbered = names_of([mask for _, mask in pairs], names, label)
    if numbered is None:
        return [Marked(image, label or DEFECT, mask) for image, mask in pairs]
    source = names or pairs[0][1].parent
    return [
        Drawn(mask, partial(read_class_index, mask, image, numbered, source), key=f"{image}{sorted(numbered.items())}")
        for image, mask in pairs
    ]


def by_stem(files: Iterable[Path], suffix: str = "") -> dict[str, Path]:
    """Key files by their stem.

    Args:
        files: Files of one folder.
        suffix: End of a stem that is not part of the key, such as ``_mask``.

    Raises:
        ValueError: If two files share a stem, naming both.
    """
    found: dict[str, Path] = {}
    for file in files:
        stem = file.stem.removesuffix(suffix)
        if stem in found:
            msg = f"{found[stem]} and {file} share one stem, so masks cannot be matched. Rename or remove one of them."
            raise ValueError(msg)
        found[stem] = file
    return found


def match_masks(images: Iterable[Path], masks: Iterable[Path], mask_folder: Path) -> list[tuple[Path, Path]]:
    """Match images with masks by stem: ``name.png`` or ``name_mask.png``.

    Args:
        images: Image files.
        masks: Mask files.
        mask_folder: Where masks are expected, for messages.

    Returns:
        Pairs of image and mask.

    Raises:
        ValueError: If an image has no mask, a mask no image, or two files share a stem.
    """
    by_image, by_mask = by_stem(images), by_stem(masks, SUFFIX)
    # an image may itself be called name_mask
    keys = {stem: stem.removesuffix(SUFFIX) if stem not in by_mask else stem for stem in by_image}
    for stem, image in by_image.items():
        if keys[stem] not in by_mask:
            msg = (
                f"{image} has no mask: expected {mask_folder / stem}.png or {stem}_mask.png. Add it, or move the image "
                "to a folder 'good' if it is normal, or remove it."
            )
            raise ValueError(msg)
    for stem in by_mask.keys() - set(keys.values()):
        msg = f"The mask {by_mask[stem]} belongs to no image. Add the image, or remove the mask."
        raise ValueError(msg)
    return [(image, by_mask[keys[stem]]) for stem, image in sorted(by_image.items())]
