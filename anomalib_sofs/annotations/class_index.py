"""Masks whose pixel values are class numbers, 0 being normal."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from anomalib_sofs.images import image_size

from .labels import NORMAL
from .mask_cache import Marked


def read_class_index(
    mask: Path,
    image: Path,
    names: Mapping[int, str] | None,
    source: Path,
) -> Iterator[Marked]:
    """Split a class-index mask into one mask per class.

    Args:
        mask: The mask, with one channel or a palette.
        image: Its image.
        names: Class names by number; ``None`` calls them ``class_1``, ``class_2``, ...
        source: Where the names come from, for messages.

    Yields:
        Each class in the mask by number; an empty mask means a normal image.

    Raises:
        ValueError: If the mask is of another size than its image, has colours, or holds a number without a name.
    """
    with Image.open(mask) as opened:
        values = np.asarray(opened)
    if values.ndim != 2:  # noqa: PLR2004 - height and width
        msg = (
            f"{mask} is a colour image (mode {opened.mode}), but class numbers need one channel. Save it as 8-bit grey."
        )
        raise ValueError(msg)
    if values.shape != image_size(image):
        height, width = image_size(image)
        msg = (
            f"{mask} is {values.shape[1]} x {values.shape[0]} pixels, its image {image} {width} x {height}. "
            "Save the mask at the size of the image."
        )
        raise ValueError(msg)
    numbers = [int(number) for number in np.unique(values) if number]
    if not numbers:
        yield Marked(image, NORMAL, None)
    for number in numbers:
        if names is not None and number not in names:
            listed = ", ".join(f"{known} {name}" for known, name in sorted(names.items())) or "none"
            msg = (
                f"{mask} holds class {number}, which has no name in {source}, where there are: {listed}. Add it there."
            )
            raise ValueError(msg)
        label = f"class_{number}" if names is None else names[number]
        yield Marked(image, label, (values == number).astype(np.uint8))
