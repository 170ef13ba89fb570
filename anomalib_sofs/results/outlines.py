"""Outlines of regions that can be drawn again without gaining or losing a pixel.

COCO's polygons run along the borders of pixels, LabelMe's through their centres: each is filled by the rules of its
own readers. Both leave out holes: a region with holes needs run lengths or a mask.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]  # x, y in pixels
TRIANGLE = 3  # points of the smallest polygon that tools accept


def has_holes(mask: NDArray[np.bool_]) -> bool:
    """Tell whether a region encloses pixels that are not its own."""
    outside = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    parts, _ = cv2.connectedComponents(outside, connectivity=4)
    return bool(parts > 2)  # noqa: PLR2004 - the region itself, and what lies around it


def border_outline(mask: NDArray[np.bool_]) -> list[Point]:
    """Trace the outline of a region without holes for COCO, where pixel ``(x, y)`` spans ``x .. x + 1``.

    Args:
        mask: One 8-connected region ``(H, W)``.

    Returns:
        Points half-way between a pixel of the region and its neighbour outside, corners only.
    """
    following = _steps(np.pad(mask, 1))
    start = point = min(following)
    contour: list[tuple[int, int]] = []
    while not contour or point != start:
        contour.append(point)
        point = following[point]
    # positions are counted in halves from the middle of the first pixel of the padding
    return [(float(x) / 2 - 0.5, float(y) / 2 - 0.5) for y, x in _corners(np.asarray(contour))]


TOP, LEFT, BOTTOM, RIGHT = (0, 1), (1, 0), (2, 1), (1, 2)
"""Middles between the pixels of a square of four, in halves of a pixel from its first one."""
STEPS = (
    (), ((LEFT, TOP),), ((TOP, RIGHT),), ((LEFT, RIGHT),), ((BOTTOM, LEFT),), ((BOTTOM, TOP),),
    ((TOP, LEFT), (BOTTOM, RIGHT)), ((BOTTOM, RIGHT),), ((RIGHT, BOTTOM),), ((RIGHT, TOP), (LEFT, BOTTOM)),
    ((TOP, BOTTOM),), ((LEFT, BOTTOM),), ((RIGHT, LEFT),), ((RIGHT, TOP),), ((TOP, LEFT),), (),
)  # fmt: skip
"""Where an outline goes in a square of four pixels, those inside on its left (marching squares). The pixels of the
first row count 1 and 2, those of the second 4 and 8; pixels that touch by a corner are connected."""


def _steps(mask: NDArray[np.bool_]) -> dict[tuple[int, int], tuple[int, int]]:
    """Return the next point of the outlines for each, in halves of a pixel."""
    inside = mask.astype(np.uint8)
    kinds = inside[:-1, :-1] + 2 * inside[:-1, 1:] + 4 * inside[1:, :-1] + 8 * inside[1:, 1:]
    following = {}
    for y, x in np.argwhere((kinds > 0) & (kinds < len(STEPS) - 1)).tolist():
        for (y_0, x_0), (y_1, x_1) in STEPS[kinds[y, x]]:
            following[2 * y + y_0, 2 * x + x_0] = 2 * y + y_1, 2 * x + x_1
    return following


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


def _corners(contour: NDArray[np.integer]) -> NDArray[np.integer]:
    """Drop the points of a closed outline that lie on a straight line between their neighbours."""
    before, after = contour - np.roll(contour, 1, axis=0), np.roll(contour, -1, axis=0) - contour
    return contour[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
