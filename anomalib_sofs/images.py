"""Reading image and mask files, whatever their bit depth and colour mode."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
EIGHT_BITS = 255
SIXTEEN_BITS = 65535


def image_files(folder: Path) -> list[Path]:
    """List the image files of a folder by name; dot-files are ignored."""
    if not folder.is_dir():
        return []
    files = (file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(file for file in files if not file.name.startswith("."))


def _open(path: str | Path) -> Image.Image:
    try:
        image = Image.open(path)
        image.load()
    except FileNotFoundError:
        msg = f"{path} does not exist."
        raise FileNotFoundError(msg) from None
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        size = Path(path).stat().st_size
        found = "an empty file" if size == 0 else f"a file of {size} bytes that is no readable image ({error})"
        msg = f"{path} is {found}. Save it again as PNG, JPEG, BMP or TIFF, or remove it."
        raise ValueError(msg) from error
    return image


def is_deep(path: str | Path) -> bool:
    """Tell from the header alone whether a file has more than 8 bits per channel."""
    with Image.open(path) as image:
        return image.mode[0] in "IF"


def read_image(path: str | Path) -> Tensor:
    """Read an image as RGB.

    8 and 16 bits, grey, palette and RGBA are accepted (alpha is dropped); floating point images are taken as [0, 1].

    Args:
        path: The file.

    Returns:
        ``(3, H, W)`` float32 in [0, 1].

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is empty or no image.
    """
    image = _open(path)
    if image.mode[0] in "IF":
        # Pillow's own conversion to RGB clips everything above 255 to white
        values: np.ndarray = np.asarray(image, dtype=np.float32)
        values = values / (SIXTEEN_BITS if image.mode[0] == "I" else 1)
        return torch.from_numpy(values.clip(0, 1)).expand(3, -1, -1).clone()
    values = np.asarray(image.convert("RGB"), dtype=np.float32) / EIGHT_BITS
    return torch.from_numpy(values).permute(2, 0, 1).contiguous()


def read_mask(path: str | Path) -> Tensor:
    """Read a mask: non-zero pixels are defect.

    Args:
        path: The file.

    Returns:
        ``(H, W)`` uint8 in {0, 1}.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is empty or no image.
    """
    image = _open(path)
    values = np.asarray(image if image.mode[0] in "IFLP1" and image.mode != "LA" else image.convert("L"))
    return torch.from_numpy((values > 0).astype(np.uint8))


def image_size(path: str | Path) -> tuple[int, int]:
    """Read only the header and return ``(height, width)`` in pixels.

    Raises:
        ValueError: If the file is empty or no image.
    """
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (UnidentifiedImageError, OSError):
        _open(path)  # says what is wrong
        raise
