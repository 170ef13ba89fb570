"""The view of an image that marks were drawn on: upright, or as the camera stored it."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomalib_sofs.images import UPRIGHT, Header, read_header, turned_upright

from .notices import warn_once


class Frame(NamedTuple):
    """A view of an image, in its pixels."""

    height: int
    width: int
    orientation: int
    """How this view is turned upright; 1 if it is."""

    def upright(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn a mask ``(height, width)`` drawn on this view as the upright image lies."""
        return turned_upright(mask, self.orientation)


def frame_of(image: Path, declared: tuple[int, int] | None, source: Path | str) -> Frame:
    """Tell on which view of an image its marks were drawn.

    Viewers and labelling tools show photos upright, some programs as they are stored. Where the size does not tell,
    marks belong to the upright view, which is said once per folder.

    Args:
        image: The image.
        declared: ``(height, width)`` that the marks were drawn on, as far as is known.
        source: Start of the message if they do not fit: what says so, with a verb.

    Raises:
        ValueError: If the image has another size.
    """
    header = read_header(image)
    upright = (header.height, header.width)
    if declared in {None, upright}:
        _say_if_unsure(header, image, known=declared is not None)
        return Frame(*upright, UPRIGHT)
    if declared == header.stored:
        return Frame(*header.stored, header.orientation)
    assert declared is not None  # noqa: S101 - for the type checker
    msg = (
        f"{source} {declared[1]} x {declared[0]} pixels, but {image} has {_sizes(header)}. Use the image that was "
        "annotated, or correct the entry."
    )
    raise ValueError(msg)


def check_mask_size(size: tuple[int, int], mask: Path | str, image: Path) -> None:
    """Check that a mask fits its image, turned upright.

    Args:
        size: ``(height, width)`` of the mask.
        mask: Its file, or more about it, for messages.
        image: The image.

    Raises:
        ValueError: If it does not, with the remedy.
    """
    header = read_header(image)
    if size == (header.height, header.width):
        _say_if_unsure(header, image, known=True)
        return
    drawn_on_stored = size == header.stored
    remedy = (
        "The mask was drawn on the stored view: turn it, or save the image without the orientation tag."
        if drawn_on_stored
        else "Save the mask at the size of the image."
    )
    msg = f"{mask} is {size[1]} x {size[0]} pixels, its image {image} {_sizes(header)}. {remedy}"
    raise ValueError(msg)


def _say_if_unsure(header: Header, image: Path, *, known: bool) -> None:
    if header.orientation == UPRIGHT or (known and header.stored != (header.height, header.width)):
        return
    warn_once(
        image.parent,
        "%s and perhaps others beside it are turned by their EXIF orientation (%d): marks are taken to be drawn on the "
        "upright view. If they were drawn on the stored one, save the images upright.",
        image,
        header.orientation,
    )


def _sizes(header: Header) -> str:
    size = f"{header.width} x {header.height}"
    if header.orientation == UPRIGHT:
        return size
    height, width = header.stored
    return f"{size} when turned upright by its EXIF orientation ({header.orientation}; stored as {width} x {height})"
