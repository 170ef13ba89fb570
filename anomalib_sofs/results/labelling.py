"""Connected regions of a mask."""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 8
"""Pixels that touch by a corner are connected."""


def label(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Number the 8-connected regions of a mask ``(H, W)`` from 1 on; 0 is what lies outside."""
    _, numbers = cv2.connectedComponents(mask.astype(np.uint8), connectivity=NEIGHBOURS, ltype=cv2.CV_32S)
    return np.asarray(numbers, dtype=np.int32)


def boxes(numbers: NDArray[np.int32]) -> Iterator[tuple[slice, slice]]:
    """Yield the rows and columns that hold each region of :func:`label`, in the order of their numbers."""
    ys, xs = np.nonzero(numbers)
    order = np.argsort(numbers[ys, xs], kind="stable")
    ys, xs = ys[order], xs[order]
    ends = np.cumsum(np.bincount(numbers.ravel())[1:])
    for start, end in zip([0, *ends], ends, strict=False):
        yield (
            slice(int(ys[start:end].min()), int(ys[start:end].max()) + 1),
            slice(int(xs[start:end].min()), int(xs[start:end].max()) + 1),
        )
