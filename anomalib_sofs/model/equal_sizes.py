"""Images of one batch have one size: anomalib would resize the others silently, and small defects would be lost."""

import contextlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from anomalib_sofs.images import image_size

Size = tuple[int, int]  # height and width in pixels


def check_equal_sizes(paths: Sequence[str | Path]) -> None:
    """Check from their headers that images have one size.

    Args:
        paths: Image files that are to share batches; unreadable ones are left to whoever reads them.

    Raises:
        ValueError: If sizes differ, naming an image of each of two sizes and the remedy.
    """
    with ThreadPoolExecutor() as pool:
        sizes = list(pool.map(_size_or_none, paths))
    first: dict[Size, str | Path] = {}
    for path, size in zip(paths, sizes, strict=True):
        if size is not None:
            first.setdefault(size, path)
    if len(first) > 1:
        (one, one_path), (other, other_path) = list(first.items())[:2]
        msg = (
            f"Images of different sizes do not fit into one batch: {one_path} has {one[1]} x {one[0]} pixels, "
            f"{other_path} {other[1]} x {other[0]}. They would have to be resized, and small defects would be lost. "
            "Take one image at a time: --data.eval_batch_size 1 (batch_size=1 of a DataLoader)."
        )
        raise ValueError(msg)


def check_not_resized(paths: Sequence[str | Path], shape: Iterable[int]) -> None:
    """Check that a batch was not resized to the largest of its images; resizing all of them is the user's own wish.

    Args:
        paths: Files of the batch's images.
        shape: Height and width of the batch.

    Raises:
        ValueError: If it was, with the remedy.
    """
    if len(paths) > 1 and tuple(shape) in {_size_or_none(path) for path in paths}:
        check_equal_sizes(paths)


def _size_or_none(path: str | Path) -> Size | None:
    with contextlib.suppress(OSError, ValueError):
        return image_size(path)
    return None
