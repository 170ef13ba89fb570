"""Rejected regions: masks in a folder ``not`` of what somebody called no defect."""

from collections.abc import Iterable
from pathlib import Path

from anomalib_sofs.images import image_files

from .labels import is_normal_name
from .mask_folders import REJECTED, SUFFIX, by_stem
from .places import IMAGES, named_folders


def rejected_masks(images: Iterable[Path]) -> dict[Path, Path]:
    """Find the mask of rejected regions of each image that has one.

    It lies in a folder ``not`` beside the images, or beside their folder ``image/`` (``images/``, ``good/``), and is
    called like the image: ``name.png`` or ``name_mask.png``.

    Args:
        images: Image files.

    Raises:
        ValueError: If a mask belongs to no image, or two share a stem.
    """
    found: dict[Path, Path] = {}
    unused: set[Path] = set()
    folders: dict[Path, dict[str, Path]] = {}
    for image in dict.fromkeys(images):
        folder = image.parent
        if folder not in folders:
            masks = [mask for place in _places(folder) for mask in image_files(place)]
            folders[folder] = by_stem(masks, SUFFIX)
            unused.update(masks)
        mask = folders[folder].get(image.stem)
        if mask is not None:
            found[image] = mask
    left = sorted(unused - set(found.values()))
    if left:
        msg = f"The mask {left[0]} rejects regions of no image. Add the image, or remove the mask."
        raise ValueError(msg)
    return found


def _places(folder: Path) -> list[Path]:
    inner = folder.name.lower() in IMAGES or is_normal_name(folder.name)
    return named_folders(folder, REJECTED) or (named_folders(folder.parent, REJECTED) if inner else [])
