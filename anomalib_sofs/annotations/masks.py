"""Mask files: which pixels of an image are marked."""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomalib_sofs.images import open_image

from .labels import IGNORE
from .notices import warn_once

logger = logging.getLogger(__name__)

HALF = 128
MOST_CLASSES = 64
OWN_MASK = "anomalib_sofs"  # text in masks that this package wrote: they hold 0, 1 and 255 as such


def read_marks(path: str | Path) -> NDArray[np.uint8]:
    """Read a mask: pixels that are not black are marked.

    Palette colours count as colours. Where the colours mark all or nothing, transparency decides. Lossy files are cut
    at half, with a warning. A file with small numbers (up to 64) and 255, and nothing else, holds class numbers, and
    255 means ignored pixels there.

    Args:
        path: The file.

    Returns:
        ``(H, W)`` uint8: 0 normal, 1 marked, 255 ignored.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is empty, no image, or holds values that are not numbers.
    """
    image = open_image(path)
    if OWN_MASK in image.info:
        return np.array(image, dtype=np.uint8)
    if is_lossy(image, path):
        warn_once(
            path,
            "%s is a mask in a lossy format (%s), which blurs its border: pixels from half of white on are marked. "
            "Save masks as PNG.",
            path,
            image.format,
        )
        return (np.asarray(image.convert("L")) >= HALF).astype(np.uint8)
    numbers = numbers_in(image)
    if numbers is not None and IGNORE in numbers and is_class_numbers(numbers):
        warn_once(
            path, "%s holds class numbers and 255: the pixels of 255 are ignored, neither defect nor normal.", path
        )
        values = np.asarray(image)
        return np.where(values == IGNORE, np.uint8(IGNORE), (values > 0).astype(np.uint8))
    return _painted(image, path).astype(np.uint8)


def _painted(image: Image.Image, path: str | Path) -> NDArray[np.bool_]:
    """Tell which pixels have a colour, or where colours do not tell, which are opaque."""
    if image.mode[0] in "IF":
        values = np.asarray(image)
        if not np.isfinite(values).all():
            msg = f"The mask {path} holds values that are not numbers (NaN or infinity). Save it as 8-bit PNG."
            raise ValueError(msg)
        return values > 0
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    painted: NDArray[np.bool_] = np.asarray(image.convert("RGB")).max(axis=2) > 0  # the darkest blue is black in grey
    if image.has_transparency_data and (painted.all() or not painted.any()):
        opaque = np.asarray(image.convert("RGBA").getchannel("A")) > 0
        if opaque.any() and not opaque.all():
            return opaque
    return painted


def is_lossy(image: Image.Image, path: str | Path) -> bool:
    """Tell whether a file was compressed with losses."""
    if image.format == "WEBP":
        with Path(path).open("rb") as file:
            return b"VP8L" not in file.read(4096)
    return image.format in {"JPEG", "MPO"} or image.info.get("compression") in {"jpeg", "webp"}


def numbers_in(image: Image.Image) -> set[int] | None:
    """Return the values that an image holds, if these may be class numbers.

    Returns:
        The values of grey pixels, or the indices into a palette of colours on black; ``None`` for any other image.
    """
    if image.mode in {"L", "P"}:
        numbers = {number for number, count in enumerate(image.histogram()) if count}
        return numbers if image.mode == "L" or _is_label_palette(image, numbers) else None
    if image.mode[0] == "I":
        return {int(number) for number in np.unique(np.asarray(image))}
    return None


def _is_label_palette(image: Image.Image, numbers: set[int]) -> bool:
    """Tell a palette that shows class numbers in colours from one that stands for the picture's own greys."""
    palette = np.array(image.getpalette("RGB"), dtype=int).reshape(-1, 3)
    used = palette[[number for number in sorted(numbers) if number < len(palette)]]
    grey = (used == used[:, :1]).all(axis=1)
    as_numbered = bool(grey.all()) and used[:, 0].tolist() == sorted(numbers)
    return not palette[0].any() and (as_numbered or bool((~grey).any()))


def is_class_numbers(numbers: set[int]) -> bool:
    """Tell class numbers from grey values: small ones, at least two of them or one beside 255."""
    small = numbers - {0, IGNORE}
    if not small or max(small) > MOST_CLASSES or min(small) < 0:
        return False
    return max(small) > 1 or IGNORE in numbers
