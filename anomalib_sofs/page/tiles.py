"""What the browser shows of an image: tiles of it, reduced by powers of two, and what lies over them.

Only what is looked at is sent, so that a large image stays usable; marks and finds keep their native pixels.
"""

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from .decisions import Decision
from .finds import Find
from .images import Pixels, reduced

SIDE = 512
"""Pixels of a tile."""
SCALES = (1, 2, 4, 8, 16, 32, 64)
"""Native pixels per pixel of a tile."""
REJECTED = 254
"""Code of pixels that were rejected, where marks have class numbers and 255 counts for nothing."""
THUMBNAIL = 176
"""Pixels of the longer side of a thumbnail."""


class Tile(NamedTuple):
    """One tile of an image."""

    scale: int
    column: int
    row: int

    def within(self, height: int, width: int) -> tuple[slice, slice]:
        """Return rows and columns of an image that it shows.

        Raises:
            ValueError: If there is no such tile.
        """
        step = SIDE * self.scale
        top, left = self.row * step, self.column * step
        if self.scale not in SCALES or not (0 <= top < height and 0 <= left < width):
            msg = f"There is no tile {self.column}, {self.row} at scale {self.scale} of {width} x {height} pixels."
            raise ValueError(msg)
        return slice(top, min(top + step, height)), slice(left, min(left + step, width))


def image_tile(pixels: Pixels, tile: Tile) -> bytes:
    """Return a tile of an image as PNG, reduced by averaging."""
    part = pixels[tile.within(*pixels.shape[:2])]
    if tile.scale > 1:
        size = (-(-part.shape[1] // tile.scale), -(-part.shape[0] // tile.scale))
        part = cv2.resize(part, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    return png(part)


def overlay_tile(find: Find | None, steps: list[int], numbers: list[int], decision: Decision, tile: Tile) -> bytes:
    """Return what lies over a tile as PNG, three numbers per pixel instead of a colour.

    Red is the step of the threshold up to which something is found there, green its class, blue what was decided: a
    class number, :data:`REJECTED`, or 255. The browser makes colours of it, for any threshold. Of the pixels that
    become one, the largest numbers count: what is small stays visible.
    """
    rows, columns = tile.within(*decision.marks.shape)
    decided = np.where(decision.rejected[rows, columns], np.uint8(REJECTED), decision.marks[rows, columns])
    found: NDArray[np.uint16]
    if find is None:
        found = np.zeros(decided.shape, np.uint16)
    else:
        part = Find(find.levels[:, rows, columns], find.names, find.made_by)
        best, levels = part.best(steps)
        found = (levels & np.uint16(0xFF00)) | np.asarray(numbers, np.uint16)[best - 1]
    found, decided = _block_max(found, tile.scale), _block_max(decided, tile.scale)
    return png(np.dstack([(found >> 8).astype(np.uint8), (found & 0xFF).astype(np.uint8), decided]))


def thumbnail(pixels: Pixels) -> bytes:
    """Return a small JPEG of an image."""
    bgr = cv2.cvtColor(reduced(pixels, THUMBNAIL), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Return RGB pixels ``(H, W, 3)`` as PNG, fast rather than small."""
    bgr = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def _block_max(values: NDArray[Any], scale: int) -> NDArray[Any]:
    if scale == 1:
        return values
    height, width = (-(-length // scale) * scale for length in values.shape)
    padded = np.zeros((height, width), values.dtype)
    padded[: values.shape[0], : values.shape[1]] = values
    blocks: NDArray[Any] = padded.reshape(height // scale, scale, width // scale, scale).max((1, 3))
    return blocks
