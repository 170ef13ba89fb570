"""The gate of lower precisions: a bundle that no longer finds what was marked about as well as in FP32 is refused."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from anomalib_sofs.annotations.labels import IGNORE
from anomalib_sofs.model.examples import Examples, shows_defect
from anomalib_sofs.runtime.inferencer import SofsInferencer

MOST_LOSS = 0.05
"""By which the overlap with what was marked (IoU, of a class, over all of its support images) may fall."""


class PrecisionError(ValueError):
    """A lower precision loses what was marked."""


class Found(NamedTuple):
    """What a bundle finds of the marks of one class in its own support set."""

    overlap: float
    """Intersection over union of marked and found pixels."""
    images: int
    """Images on which some of what was marked was found."""


def found_again(inferencer: SofsInferencer, support: Examples) -> dict[str, Found]:
    """Search the support set for itself: what is found of each class."""
    # where defects count is said of queries
    inferencer.use(replace(inferencer.support, roi=None))
    counts: dict[str, list[tuple[int, int]]] = {}
    for image, mask, label in zip(support.images, support.masks, support.labels, strict=True):
        if not shows_defect(mask):
            continue
        number = list(inferencer.support.names).index(label)
        pixels = (np.asarray(image) * 255).round().astype(np.uint8).transpose(1, 2, 0)
        marks, clear = np.asarray(mask) == 1, np.asarray(mask) != IGNORE
        found = (inferencer.raw(pixels).maps[0, number] > 0.5) & clear  # noqa: PLR2004
        counts.setdefault(label, []).append((int((found & marks).sum()), int((found | marks).sum())))
    found_of = {}
    for label, rows in counts.items():
        both, either = (sum(values) for values in zip(*rows, strict=True))
        found_of[label] = Found(both / either, sum(hit > 0 for hit, _ in rows))
    return found_of


def check(before: dict[str, Found], after: dict[str, Found], precision: str) -> None:
    """Compare what is found of the support set in FP32 and in a lower precision.

    Raises:
        PrecisionError: If the overlap of a class falls by more than :data:`MOST_LOSS`, or nothing of the marks of an
            image is found any more.
    """
    for name, was in before.items():
        now = after[name]
        if was.overlap - now.overlap > MOST_LOSS or now.images < was.images:
            msg = (
                f"{precision.upper()} loses what was marked: the overlap with the marks of {name!r} falls from "
                f"{100 * was.overlap:.1f} % to {100 * now.overlap:.1f} %, where {100 * MOST_LOSS:.0f} points are "
                f"allowed, and some of them is found on {now.images} images instead of {was.images}. Nothing was "
                "written. Keep --precision fp32, or, for int8, give images like those to be searched: --calibration "
                "FOLDER."
            )
            raise PrecisionError(msg)
