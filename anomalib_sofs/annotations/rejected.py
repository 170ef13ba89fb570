"""Rejected regions: masks in a folder ``not`` of what somebody called no defect.

They lie beside the masks, of images that are marked or normal; or they lie in ``not/mask/`` with images of their own in
``not/image/``, of which nothing else is known: the rest of such an image is neither good nor a defect.
"""

from collections.abc import Iterable
from pathlib import Path

from anomalib_sofs.images import image_files

from .labels import is_normal_name
from .mask_folders import REJECTED, SUFFIX, by_stem, match_masks
from .places import IMAGES, MASKS, images_of, named_folders


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


def rejected_alone(root: Path) -> dict[Path, Path]:
    """List the images in ``not/image/`` of a support folder, and the masks of their rejected regions.

    Args:
        root: The support folder.

    Raises:
        ValueError: If an image has no mask, a mask no image, or two share a stem.
    """
    found: dict[Path, Path] = {}
    for folder in named_folders(root, REJECTED):
        images, masks = named_folders(folder, *IMAGES), named_folders(folder, *MASKS)
        if images and masks and (image_files(images[0]) or image_files(masks[0])):
            found.update(match_masks(images_of(images[0]), image_files(masks[0]), masks[0]))
    return found


def _places(folder: Path) -> list[Path]:
    inner = folder.name.lower() in IMAGES or is_normal_name(folder.name)
    return named_folders(folder, REJECTED) or (named_folders(folder.parent, REJECTED) if inner else [])
