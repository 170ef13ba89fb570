"""Masks whose pixel values are class numbers, 0 being normal and 255 ignored."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from anomalib_sofs.images import open_image

from .frames import check_mask_size
from .labels import DEFECT, IGNORE, NORMAL, is_normal_name
from .marked import Marked
from .masks import MOST_CLASSES, is_class_numbers, is_lossy, numbers_in

NAMES = "classes.txt"
SAMPLE = 16  # masks looked at to tell class numbers from grey values
BACKGROUND = frozenset({"background", "_background_"})
IGNORED_CLASS = "__ignore__"  # LabelMe's


def read_class_index(mask: Path, image: Path, names: Mapping[int, str], source: Path) -> Iterator[Marked]:
    """Split a class-index mask into one mask per class.

    Args:
        mask: The mask, with one channel or a palette.
        image: Its image.
        names: Class names by number; several numbers may share a name. 255 means ignored pixels unless it has a name.
        source: Where the names come from, for messages.

    Yields:
        Each class in the mask by number; nothing but 0 means a normal image, with its ignored pixels if there are any.

    Raises:
        ValueError: If the mask is of another size than its image, has colours or a lossy format, or holds a number
            without a name.
    """
    opened = open_image(mask)
    if is_lossy(opened, mask):
        msg = f"{mask} should hold class numbers, but its format ({opened.format}) changes them. Save it as PNG anew."
        raise ValueError(msg)
    values = np.asarray(opened)
    if values.ndim != 2:  # noqa: PLR2004 - height and width
        msg = (
            f"{mask} is a colour image (mode {opened.mode}), but class numbers need one channel. Save it as 8-bit grey."
        )
        raise ValueError(msg)
    check_mask_size((values.shape[0], values.shape[1]), mask, image)
    ignored = values == IGNORE if IGNORE not in names else np.zeros(values.shape, dtype=bool)
    numbers: dict[str, list[int]] = {}
    for number in (int(value) for value in np.unique(values[~ignored]) if value):
        if number not in names:
            raise ValueError(_nameless(mask, number, names, source))
        numbers.setdefault(names[number], []).append(number)
    for label, own in numbers.items():
        yield Marked(image, label, np.where(ignored, np.uint8(IGNORE), np.isin(values, own).astype(np.uint8)))
    if not numbers:
        yield Marked(image, NORMAL, ignored * np.uint8(IGNORE) if bool(ignored.any()) else None)


def _nameless(mask: Path, number: int, names: Mapping[int, str], source: Path) -> str:
    if isinstance(names, Nameless):
        return (
            f"{mask} holds the value {number}, but the masks beside it hold class numbers, small ones. Correct it, or "
            f"name all classes in a file {NAMES} beside the images' folder."
        )
    listed = ", ".join(f"{known} {name}" for known, name in sorted(names.items())) or "none"
    return f"{mask} holds class {number}, which has no name in {source}, where there are: {listed}. Add it there."


def names_of(masks: list[Path], source: Path | None, label: str | None) -> Mapping[int, str] | None:
    """Tell which classes the masks of a folder hold.

    Args:
        masks: The mask files.
        source: The file ``classes.txt``, which need not exist; ``None`` where none belongs.
        label: Class that the folder is named after; ``None`` if it is not.

    Returns:
        Class names by number; ``None`` if pixels that are not black are marked, whatever their values.
    """
    if source is not None and source.is_file():
        return read_class_names(source)
    numbers: set[int] = set()
    with_ignored = False
    for mask in masks[:SAMPLE]:
        opened = open_image(mask)
        found = None if is_lossy(opened, mask) else numbers_in(opened)
        if found is None:
            return None
        numbers |= found
        with_ignored = with_ignored or (IGNORE in found and is_class_numbers(found))
    # 1 in one file and 255 in another are two ways to write black and white
    if not is_class_numbers(numbers) or (IGNORE in numbers and not with_ignored):
        return None
    nameless = label is not None or max(numbers - {IGNORE}) == 1
    return Nameless((label or DEFECT) if nameless else None)


class Nameless(dict[int, str]):
    """Names for numbers that nobody named.

    Args:
        label: The one name of all numbers; ``None`` calls them ``class_1``, ``class_2``, ...
    """

    def __init__(self, label: str | None) -> None:
        super().__init__((number, label or f"class_{number}") for number in range(1, MOST_CLASSES + 1))


def read_class_names(source: Path) -> dict[int, str]:
    """Read class names, one per line, for 1, 2, ...

    A first line ``background`` or ``_background_`` names 0, and ``__ignore__`` before it names nothing, as in the lists
    that LabelMe writes.

    Raises:
        ValueError: If a name is empty, doubled or means normal images.
    """
    lines = [line.strip() for line in source.read_text(encoding="utf-8-sig").splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if lines and lines[0] == IGNORED_CLASS:
        lines = lines[1:]
    if lines and lines[0].lower() in BACKGROUND:
        lines = lines[1:]
    for number, name in enumerate(lines, start=1):
        if not name or is_normal_name(name) or lines.count(name) > 1:
            msg = f"{source} names class {number} {name!r}. Each line is a class: not empty, not {NORMAL!r}, not twice."
            raise ValueError(msg)
    return dict(enumerate(lines, start=1))
