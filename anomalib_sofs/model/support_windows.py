"""Windows around the defects of a support image: where to look closely when the image is larger than a window."""

from collections.abc import Sequence
from itertools import product

import numpy as np

from anomalib_sofs.annotations.labels import IGNORE
from anomalib_sofs.arrays import Array, to_numpy

WHOLE_IMAGE_SHARE = 0.01  # a defect above this share of the image is seen on the whole, resized image

SEEN = 0.75  # of a window that others cover: it shows little that is new


def covers_much(mask: Array) -> bool:
    """Tell whether a defect covers more than 1 % of the image, so that the whole image is used, resized."""
    return bool(((mask > 0) & (mask != IGNORE)).sum() > WHOLE_IMAGE_SHARE * mask.shape[0] * mask.shape[1])


def place_windows(mask: Array, size: int, count: int) -> list[tuple[int, int]]:
    """Place up to ``count`` windows over the defect, deterministically.

    Each window is centred on the uncovered defect pixel nearest to the middle of all uncovered ones. It stops once
    every defect pixel is covered: identical windows would add weight but no information. A mask without defect gets
    windows spread along the image's diagonal.

    Args:
        mask: ``(H, W)``.
        size: Side of a window in pixels.
        count: Most windows.

    Returns:
        Top left corners ``(y, x)``, inside the image where it is larger than a window, else 0.
    """
    height, width = mask.shape
    limit = np.array([max(height - size, 0), max(width - size, 0)])
    left = np.argwhere(to_numpy(mask) > 0)
    if not len(left):
        many = count if int(limit.max()) > 0 else 1
        steps = [i / max(many - 1, 1) for i in range(many)]
        return [(int(step * limit[0]), int(step * limit[1])) for step in steps]
    corners: list[tuple[int, int]] = []
    while len(left) and len(corners) < count:
        anchor = left[np.square(left - left.mean(0)).sum(1).argmin()]
        y, x = (int(v) for v in np.minimum((anchor - size // 2).clip(0), limit))
        corners.append((y, x))
        inside = (left[:, 0] >= y) & (left[:, 0] < y + size) & (left[:, 1] >= x) & (left[:, 1] < x + size)
        left = left[~inside]
    return corners


def rest_windows(shape: Sequence[int], size: int, taken: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Tile an image with the fewest windows, and leave out those that show little else than others do.

    Args:
        shape: Height and width of the image in pixels.
        size: Side of a window in pixels.
        taken: Top left corners of the windows that there are already.

    Returns:
        Top left corners ``(y, x)``, row by row.
    """
    covered = np.zeros(tuple(shape), dtype=bool)
    for y, x in taken:
        covered[y : y + size, x : x + size] = True
    corners = []
    for y, x in product(*(_tiles(length, size) for length in shape)):
        window = covered[y : y + size, x : x + size]
        if window.mean() <= SEEN:
            corners.append((y, x))
            window[:] = True
    return corners


def _tiles(length: int, size: int) -> list[int]:
    count = -(-length // size)
    return [i * max(length - size, 0) // max(count - 1, 1) for i in range(count)]
