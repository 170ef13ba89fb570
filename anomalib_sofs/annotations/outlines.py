"""Polygons drawn as run lengths, the form in which masks of long files stay small."""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as run_lengths

from .frames import Frame

logger = logging.getLogger(__name__)

SLACK = 2  # pixels by which labelling tools overshoot an image's border


def encode_polygon(points: NDArray[np.float64], frame: Frame, image: Path, where: str) -> dict:
    """Draw a polygon.

    Args:
        points: Corners ``(N, 2)`` as x and y in pixels of the frame.
        frame: What it was drawn on.
        image: The image, for messages.
        where: The polygon's place in its file, for messages.

    Returns:
        Run lengths of pycocotools. What reaches beyond the image is cut off; a polygon smaller than a pixel marks the
        pixel it lies in.

    Raises:
        ValueError: If it lies outside of the image, or a coordinate is no number.
    """
    size = np.array([frame.width, frame.height])
    if not np.isfinite(points).all():
        msg = f"{where} has a coordinate that is no number. Correct or remove it."
        raise ValueError(msg)
    low, high = points.min(axis=0), points.max(axis=0)
    if (high < 0).any() or (low > size).any():
        msg = (
            f"{where} has a polygon outside of the image: x {low[0]:g} to {high[0]:g}, y {low[1]:g} to {high[1]:g}, "
            f"but {image} has {frame.width} x {frame.height} pixels. Use the annotated image, or correct it."
        )
        raise ValueError(msg)
    if (low < -SLACK).any() or (high > size + SLACK).any():
        logger.warning("%s: cut off a polygon that reaches beyond the image.", where)
    (drawn,) = run_lengths.frPyObjects([points.flatten().tolist()], frame.height, frame.width)
    if run_lengths.area(drawn):
        return drawn
    x, y = np.clip(points.mean(axis=0), 0, size - 1).astype(int)
    pixel = np.zeros((frame.height, frame.width), dtype=np.uint8, order="F")
    pixel[y, x] = 1
    return run_lengths.encode(pixel)
