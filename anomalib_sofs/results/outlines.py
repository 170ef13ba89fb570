"""Outlines of regions that can be drawn again without gaining or losing a pixel.

COCO's polygons run along the borders of pixels, LabelMe's through their centres: each is filled by the rules of its
own readers. Both leave out holes: a region with holes needs run lengths or a mask.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes
from skimage.measure import find_contours

Point = tuple[float, float]  # x, y in pixels
TRIANGLE = 3  # points of the smallest polygon that tools accept


def has_holes(mask: NDArray[np.bool_]) -> bool:
    """Tell whether a region encloses pixels that are not its own."""
    return bool((binary_fill_holes(mask) != mask).any())


def border_outline(mask: NDArray[np.bool_]) -> list[Point]:
    """Trace the outline of a region without holes for COCO, where pixel ``(x, y)`` spans ``x .. x + 1``.

    Args:
        mask: One 8-connected region ``(H, W)``.

    Returns:
        Points half-way between a pixel of the region and its neighbour outside, corners only.
    """
    (contour,) = find_contours(np.pad(mask, 1).astype(float), 0.5, fully_connected="high")
    return [(float(x) - 0.5, float(y) - 0.5) for y, x in _corners(contour[:-1])]


def centre_outline(mask: NDArray[np.bool_]) -> list[Point]:
    """Trace the outline of a region without holes for LabelMe, whose points lie on pixels.

    Args:
        mask: One 8-connected region ``(H, W)``.

    Returns:
        Centres of its outermost pixels, corners only; repeated up to three points.
    """
    (contour,), _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    points = [(float(x), float(y)) for x, y in contour[:, 0]]
    return points + points[-1:] * (TRIANGLE - len(points))


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """Count the pixels outside, inside, outside, ... of a mask, column by column, as COCO does."""
    pixels = mask.flatten(order="F")
    changes = np.flatnonzero(np.diff(pixels, prepend=False)) if len(pixels) else np.empty(0, dtype=int)
    return np.diff(np.concatenate([[0], changes, [len(pixels)]])).astype(int).tolist()


def _corners(contour: NDArray[np.floating]) -> NDArray[np.floating]:
    """Drop the points of a closed outline that lie on a straight line between their neighbours."""
    before, after = contour - np.roll(contour, 1, axis=0), np.roll(contour, -1, axis=0) - contour
    return contour[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
