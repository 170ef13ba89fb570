"""What every reader of annotations returns."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Marked(NamedTuple):
    """One class marked on one image."""

    image: Path
    label: str
    mask: Path | NDArray[np.uint8] | None
    """A mask file, pixels ``(H, W)`` of {0, 1, 255}, or ``None`` for an image of a folder of normal ones."""


class Drawn(NamedTuple):
    """A file that describes marks, drawn when they are asked for."""

    file: Path
    read: Callable[[], Iterable[Marked]]
    """Reads and checks the file; a mask of ``None`` means that nothing is marked on the image."""
    key: str = ""
    """What else the marks depend on, such as class names."""


class Unmarked(NamedTuple):
    """An image for which there is no file with marks, where the format allows that."""

    image: Path
    expected: Path


Entry = Marked | Drawn | Unmarked


class Layout(NamedTuple):
    """How a folder holds images with marks."""

    name: str
    """Its form, for messages."""
    read: Callable[[], list[Entry]]
    """Lists and matches the files."""
