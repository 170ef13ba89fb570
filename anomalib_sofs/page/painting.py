"""Strokes of a brush, rectangles and areas grown from a click, as pixels of an image at its native size."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .images import Pixels

MOST_POINTS = 20_000
"""Of a stroke."""
WIDEST = 2000
"""Brush in pixels."""
REACH = 256
"""Pixels around a click in which an area grows."""


def brushed(size: tuple[int, int], points: Sequence[Sequence[float]], width: int) -> NDArray[np.bool_]:
    """Draw a stroke ``(H, W)``, round at its ends and corners.

    Args:
        size: Height and width of the image.
        points: ``x, y`` in pixels, 0 being the left or upper edge of the first pixel.
        width: Of the stroke in pixels.

    Raises:
        ValueError: If there is no point or too many, or the width is no possible one.
    """
    if not 1 <= len(points) <= MOST_POINTS or not 1 <= width <= WIDEST:
        msg = f"A stroke has 1 to {MOST_POINTS} points, and is 1 to {WIDEST} pixels wide."
        raise ValueError(msg)
    pixels = np.floor(np.clip(np.asarray(points, float).reshape(-1, 2), -1e5, 1e5)).astype(np.int32)
    line = np.ones(size, np.uint8)
    cv2.polylines(line, [np.concatenate([pixels, pixels[-1:]])], isClosed=False, color=0)
    # OpenCV's own wide lines are a pixel or two wider than they are asked to be
    (left, top), (right, bottom) = np.maximum(pixels.min(0) - width, 0), pixels.max(0) + width + 1
    around = np.ascontiguousarray(line[top : max(bottom, 0), left : max(right, 0)])
    canvas = np.zeros(size, np.bool_)
    if around.size and not around.all():
        near = cv2.distanceTransform(around, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= (width - 1) / 2
        canvas[top : max(bottom, 0), left : max(right, 0)] = near
    return canvas


def boxed(size: tuple[int, int], points: Sequence[Sequence[float]]) -> NDArray[np.bool_]:
    """Fill the rectangle between two points.

    Raises:
        ValueError: If there are not two points.
    """
    if len(points) != 2:  # noqa: PLR2004
        msg = "A rectangle has two corners."
        raise ValueError(msg)
    corners = np.floor(np.asarray(points, float)).reshape(2, 2)
    (left, top), (right, bottom) = corners.min(0), corners.max(0)
    canvas = np.zeros(size, np.bool_)
    canvas[max(0, int(top)) : max(0, int(bottom) + 1), max(0, int(left)) : max(0, int(right) + 1)] = True
    return canvas


def grown(image: Pixels, x: float, y: float, tolerance: int) -> NDArray[np.bool_]:
    """Grow an area from a pixel as far as its colour reaches (OpenCV's flood fill), at most :data:`REACH` pixels away.

    The image is smoothed a little before: grain would stop the area at every speck.

    Args:
        image: The image ``(H, W, 3)``.
        x: Column of the click.
        y: Row of the click.
        tolerance: Grey values by which a pixel may differ from the one that was clicked, 1 to 128.

    Raises:
        ValueError: If the click lies outside of the image, or the tolerance is no possible one.
    """
    height, width = image.shape[:2]
    column, row = int(x), int(y)
    if not (0 <= column < width and 0 <= row < height and 1 <= tolerance <= 128):  # noqa: PLR2004
        msg = f"An area grows from a pixel of the image ({width} x {height}), with a tolerance of 1 to 128."
        raise ValueError(msg)
    top, left = max(0, row - REACH), max(0, column - REACH)
    part = np.ascontiguousarray(image[top : row + REACH + 1, left : column + REACH + 1])
    smooth = cv2.bilateralFilter(part, 5, 25, 3)
    filled = np.zeros((part.shape[0] + 2, part.shape[1] + 2), np.uint8)
    flags = 4 | cv2.FLOODFILL_MASK_ONLY | cv2.FLOODFILL_FIXED_RANGE | (1 << 8)
    cv2.floodFill(smooth, filled, (column - left, row - top), 0, (tolerance,) * 3, (tolerance,) * 3, flags)
    canvas = np.zeros((height, width), np.bool_)
    canvas[top : top + part.shape[0], left : left + part.shape[1]] = filled[1:-1, 1:-1] > 0
    return canvas


def painted(image: Pixels, stroke: dict[str, Any]) -> NDArray[np.bool_]:
    """Return the pixels of a stroke as the browser describes it.

    Args:
        image: The image.
        stroke: ``tool`` (``brush``, ``eraser``, ``rectangle`` or ``grow``), ``points``, and ``width`` or ``tolerance``.

    Raises:
        ValueError: If something in it is not possible.
    """
    size = (image.shape[0], image.shape[1])
    try:
        tool, points = stroke["tool"], stroke["points"]
        if not np.isfinite(np.asarray(points, float)).all():
            raise ValueError
        if tool in {"brush", "eraser"}:
            return brushed(size, points, int(stroke["width"]))
        if tool == "rectangle":
            return boxed(size, points)
        if tool == "grow":
            return grown(image, points[0][0], points[0][1], int(stroke["tolerance"]))
    except (KeyError, TypeError, IndexError) as error:
        msg = f"This stroke cannot be drawn: {error!r} is missing or of a wrong kind."
        raise ValueError(msg) from error
    msg = f"There is no tool {tool!r}: brush, eraser, rectangle or grow."
    raise ValueError(msg)
