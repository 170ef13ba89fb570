"""The folder of images: which files belong to it, and their pixels. No other file is ever read for the page."""

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from anomalib_sofs.images import image_size, read_pixels
from anomalib_sofs.query_files import check_queries, list_images
from anomalib_sofs.results.names import shortened

Pixels = NDArray[np.uint8]  # (H, W, 3)

KEPT_BYTES = 2**28
"""Of decoded images: seven of 12 megapixels."""
SEPARATOR = "__"
"""Stands for the folders of an image in the names of its files."""


class ImageFolder:
    """The images of a folder and all folders in it, by name.

    Whoever asks for an image gives its name; what is not in the list does not exist. Links that lead out of the folder
    are not in the list.

    Args:
        root: The folder.
        without: Folders in it that hold no images to search, such as the support folder.

    Raises:
        FileNotFoundError: If there is no such folder, or no image in it.
        ValueError: If none of the images can be read.
    """

    def __init__(self, root: Path, without: tuple[Path, ...] = ()) -> None:
        if not root.is_dir():
            msg = f"The folder of images {root} {'is a file' if root.is_file() else 'does not exist'}."
            raise FileNotFoundError(msg)
        self.root = root.resolve()
        others = [path.resolve() for path in without]
        files = [
            file
            for file in list_images(self.root)
            if not any(file.is_relative_to(other) for other in others if other != self.root)
        ]
        outside = [file for file in files if not self._is_inside(file)]
        checked = check_queries([file for file in files if file not in outside])
        self.skipped = checked.skipped + [(file, f"{file} is a link out of {self.root}.") for file in outside]
        """Files that are left out, each with its reason."""
        if not checked.images:
            reason = f" The first: {self.skipped[0][1]}" if self.skipped else ""
            msg = f"{root} holds no image that can be read.{reason}"
            raise ValueError(msg)
        self._files = {file.relative_to(self.root).as_posix(): file for file in checked.images}
        self.stems = _stems(list(self._files))
        """By name of an image what its files are called, without suffix."""
        self._decoded: LRUCache[str, Pixels] = LRUCache(KEPT_BYTES, getsizeof=lambda pixels: pixels.nbytes)

    @property
    def names(self) -> list[str]:
        """The images, by their paths below the folder."""
        return list(self._files)

    def file(self, name: str) -> Path:
        """Return the file of an image.

        Raises:
            KeyError: If there is no such image, or it has become a link out of the folder.
        """
        file = self._files[name]
        if not self._is_inside(file):
            raise KeyError(name)
        return file

    def _is_inside(self, file: Path) -> bool:
        return file.resolve().is_relative_to(self.root)

    def size(self, name: str) -> tuple[int, int]:
        """Return height and width in pixels."""
        return image_size(self.file(name))

    def pixels(self, name: str) -> Pixels:
        """Read an image as 8-bit RGB ``(H, W, 3)``, upright."""
        pixels = self._decoded.get(name)
        if pixels is None:
            pixels = np.ascontiguousarray(
                (read_pixels(self.file(name)) * 255).round().astype(np.uint8).transpose(1, 2, 0)
            )
            if pixels.nbytes <= KEPT_BYTES:
                self._decoded[name] = pixels
        return pixels


def reduced(pixels: Pixels, side: int) -> Pixels:
    """Reduce an image so that its longer side has at most so many pixels."""
    factor = side / max(pixels.shape[:2])
    if factor >= 1:
        return pixels
    size = tuple(max(1, round(length * factor)) for length in pixels.shape[1::-1])
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _stems(names: list[str]) -> dict[str, Path]:
    """Give each image a stem of its own: ``line/part.png`` becomes ``line__part``."""
    plain = {name: SEPARATOR.join(Path(name).with_suffix("").parts) for name in names}
    counts = Counter(plain.values())
    whole = {name: SEPARATOR.join(Path(name).parts) for name in names}
    return shortened({name: Path(stem if counts[stem] == 1 else whole[name]) for name, stem in plain.items()})
