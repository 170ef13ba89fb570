"""Reading image files into numpy arrays, whatever their bit depth, colour mode, size and orientation."""

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
EIGHT_BITS = 255
SIXTEEN_BITS = 65535
MOST_PIXELS = 1_000_000_000  # of one image: 12 GB as floating point colours
ORIENTATION = 0x0112  # the tag of EXIF
UPRIGHT = 1
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How Pillow turns an image of each orientation upright."""
SWAPPED = frozenset({5, 6, 7, 8})
"""Orientations that swap height and width."""
WRITTEN_BY_SYSTEMS = frozenset({"__macosx", "@eadir", "thumbs.db", "desktop.ini"})
DIM = 16  # a floating point image whose largest value lies above 1 and below this may be on either scale


def is_hidden(path: Path) -> bool:
    """Tell whether a file or folder was written by an operating system, not by a person: ``._a.png``, ``__MACOSX``."""
    return path.name.startswith(".") or path.name.lower() in WRITTEN_BY_SYSTEMS


def image_files(folder: Path) -> list[Path]:
    """List the image files of a folder by name; hidden files are ignored."""
    if not folder.is_dir():
        return []
    files = (file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(file for file in files if not is_hidden(file))


def sub_folders(folder: Path) -> list[Path]:
    """List the folders in a folder by name; hidden ones are ignored."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_hidden(path))


class Header(NamedTuple):
    """What the first bytes of an image file say."""

    height: int
    """Rows of the upright image."""
    width: int
    """Columns of the upright image."""
    mode: str
    """Pillow's name of the kind of pixels."""
    orientation: int
    """How the camera was held: 1 to 8, 1 being upright."""
    turned_by_pillow: bool
    """Whether every reader based on Pillow sees the upright image anyhow."""

    @property
    def stored(self) -> tuple[int, int]:
        """Height and width of the image as it is stored, before it is turned upright."""
        swap = self.orientation in SWAPPED
        return (self.width, self.height) if swap else (self.height, self.width)


def read_header(path: str | Path) -> Header:
    """Read the header of an image.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is empty, no image, or too large.
    """
    with _pillow_limit_lifted(), _explained(path), Image.open(path) as image:
        _check_pixels(path, image)
        orientation = _orientation(image)
        by_pillow = image.format == "TIFF"
        width, height = image.size
        if orientation in SWAPPED and not by_pillow:
            width, height = height, width
        return Header(height, width, image.mode, orientation, by_pillow)


def image_size(path: str | Path) -> tuple[int, int]:
    """Read only the header and return ``(height, width)`` of the upright image in pixels.

    Raises:
        ValueError: If the file is empty, no image, or too large.
    """
    header = read_header(path)
    return header.height, header.width


def needs_own_reader(path: str | Path) -> bool:
    """Tell from the header whether readers that know 8 bits and no orientation, anomalib's among them, get it wrong."""
    header = read_header(path)
    return header.mode[0] in "IF" or (header.orientation != UPRIGHT and not header.turned_by_pillow)


def open_image(path: str | Path) -> Image.Image:
    """Open and decode an image file and turn it upright.

    Images of up to 1,000 megapixels are read; Pillow's own limit would stop at 179.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is empty, no image, or too large.
    """
    with _pillow_limit_lifted(), _explained(path):
        image: Image.Image = Image.open(path)
        _check_pixels(path, image)
        # before decoding, since Pillow turns TIFF files itself and forgets the tag
        orientation = UPRIGHT if image.format == "TIFF" else _orientation(image)
        kind = image.format
        image.load()
        if orientation in TURNS:
            image = image.transpose(TURNS[orientation])
            image.format = kind
    return image


def turned_upright(values: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn pixels ``(H, W)`` drawn on the stored view of an image as its orientation says."""
    if orientation not in TURNS:
        return values
    return np.asarray(Image.fromarray(values).transpose(TURNS[orientation]))


def read_pixels(path: str | Path) -> NDArray[np.float32]:
    """Read an image as RGB, upright.

    8 and 16 bits, grey, palette and RGBA are accepted (alpha is dropped). Floating point images are scaled by what they
    hold: up to 1 as it is, 16 to 255 as 8 bits, up to 65,535 as 16 bits.

    Args:
        path: The file.

    Returns:
        ``(3, H, W)`` float32 in [0, 1].

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is empty, no image or too large, or holds values whose scale cannot be told.
    """
    return as_floats(read_stored(path))


def read_stored(path: str | Path) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Read an image as :func:`read_pixels` does, in a quarter of the memory where it has 8 bits.

    Returns:
        ``(3, H, W)``, a view of uint8, or float32 in [0, 1] of an image with more bits.
    """
    image = open_image(path)
    if image.mode[0] in "IF":
        # Pillow's own conversion to RGB clips everything above 255 to white
        values = np.asarray(image, dtype=np.float32)
        grey: NDArray[np.float32] = values / np.float32(_scale(values, image.mode, path))
        return np.broadcast_to(grey, (3, *grey.shape))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB")).transpose(2, 0, 1)


def as_floats(pixels: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Return pixels ``(..., H, W)`` as float32 in [0, 1], a copy."""
    if pixels.dtype == np.uint8:
        return np.divide(pixels, EIGHT_BITS, dtype=np.float32, order="C")
    return np.array(pixels, dtype=np.float32, order="C")


def _scale(values: NDArray[np.float32], mode: str, path: str | Path) -> int:
    """Return what stands for white."""
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        msg = (
            f"{path} holds values that are not numbers (NaN or infinity) in {count} pixels. Save it as 8 or 16-bit PNG "
            "with the values around them instead, or leave out this image."
        )
        raise ValueError(msg)
    low, high = float(values.min()), float(values.max())
    remedy = "Save it as 8 or 16-bit PNG, or scale it to 0 to 1."
    if low < 0 or high > SIXTEEN_BITS:
        msg = f"{path} holds values from {low:g} to {high:g}, but an image is 0 to 1, 0 to 255 or 0 to 65535. {remedy}"
        raise ValueError(msg)
    if mode[0] == "I":
        return SIXTEEN_BITS
    if 1 < high < DIM:
        msg = (
            f"{path} holds floating point values up to {high:g}: too many for a scale of 0 to 1, too few to tell a "
            f"scale of 0 to 255. {remedy}"
        )
        raise ValueError(msg)
    return next(white for white in (1, EIGHT_BITS, SIXTEEN_BITS) if high <= white)


def _orientation(image: Image.Image) -> int:
    """Return the orientation that the header of a file names, 1 where it names none."""
    if image.format == "PNG" and not {"exif", "Raw profile type exif"} & set(image.info):
        return UPRIGHT  # asking a PNG file for EXIF decodes all of it
    try:
        value = image.getexif().get(ORIENTATION, UPRIGHT)
    except (SyntaxError, ValueError, KeyError, TypeError, OSError, struct.error):
        return UPRIGHT  # broken EXIF: viewers ignore it, too
    return value if value in TURNS else UPRIGHT


def _check_pixels(path: str | Path, image: Image.Image) -> None:
    pixels = image.width * image.height
    if pixels > MOST_PIXELS:
        msg = (
            f"{path} has {image.width} x {image.height} = {pixels / 1e6:,.0f} million pixels, at most "
            f"{MOST_PIXELS / 1e6:,.0f} million are read. Cut it into several images."
        )
        raise ValueError(msg)


@contextmanager
def _explained(path: str | Path) -> Iterator[None]:
    """Say what is wrong with a file that cannot be read."""
    try:
        yield
    except FileNotFoundError:
        msg = f"{path} does not exist."
        raise FileNotFoundError(msg) from None
    except (UnidentifiedImageError, OSError, SyntaxError, struct.error) as error:
        if isinstance(error, PermissionError) or not Path(path).is_file():
            raise
        raise ValueError(_what_is_wrong(Path(path), error)) from error


def _what_is_wrong(path: Path, error: Exception) -> str:
    size = path.stat().st_size
    if size == 0:
        return f"{path} is an empty file. Save it again as PNG, JPEG, BMP or TIFF, or remove it."
    with path.open("rb") as file:
        start = file.read(4)
    if isinstance(error, UnidentifiedImageError) and start in {b"II*\0", b"MM\0*"}:
        return (
            f"{path} is a TIFF file with pixels of a kind that is not read, such as floating point colours. Save it as "
            "8 or 16-bit PNG, or as floating point with one channel."
        )
    return (
        f"{path} is a file of {size} bytes that is no readable image ({error}). Save it again as PNG, JPEG, BMP or "
        "TIFF, or remove it."
    )


_lock = threading.Lock()
_readers = 0
_limit: int | None = None


@contextmanager
def _pillow_limit_lifted() -> Iterator[None]:
    """Lift Pillow's limit on pixels, which is one for the whole process, while this package reads."""
    global _readers, _limit  # noqa: PLW0603 - the limit itself is a global of Pillow
    with _lock:
        if _readers == 0:
            _limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _readers += 1
    try:
        yield
    finally:
        with _lock:
            _readers -= 1
            if _readers == 0:
                Image.MAX_IMAGE_PIXELS = _limit
