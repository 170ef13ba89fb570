"""What was found, on disk: for each image the logit of every pixel and class, so that a threshold can be moved later.

A logit is kept as a level of 16 bits, its upper eight bits being a step of the threshold that people move.
"""

import io
import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from anomalib_sofs.results.files import written_whole

logger = logging.getLogger(__name__)

Levels = NDArray[np.uint16]  # (K, H, W)

LOWEST, HIGHEST = -4.0, 12.0
"""Logits (probabilities 0.018 and 0.999994) between which levels tell differences."""
PER_LOGIT = 4096
STEP = 256
"""Levels of one step of the threshold: a sixteenth of a logit."""
KEPT_BYTES = 2**27
ABOUT = "anomalib_sofs_find"
"""Name of the text in a file that says what it is."""


def level_of(logits: NDArray[np.floating]) -> Levels:
    """Return logits as levels, rounded down: what reaches a threshold's level reaches the threshold."""
    return ((np.clip(logits, LOWEST, HIGHEST - 1 / PER_LOGIT) - LOWEST) * PER_LOGIT).astype(np.uint16)


def logit_of(levels: NDArray[np.integer]) -> NDArray[np.float32]:
    """Return levels as logits."""
    return (levels.astype(np.float32) / PER_LOGIT + LOWEST).astype(np.float32)


def opened(levels: Levels, least_area: int) -> Levels:
    """Lower levels ``(K, H, W)`` so that no threshold's step leaves a region of fewer pixels.

    An area opening (Vincent 1993) at the steps that people can choose.
    """
    if least_area <= 1:
        return levels
    highest = np.zeros(levels.shape, np.uint16)  # step up to which a pixel is in a region that is large enough
    for values, highest_of_class in zip(levels, highest, strict=True):
        for step in range(1, 256):
            _, numbers, stats, _ = cv2.connectedComponentsWithStats((values >= step * STEP).astype(np.uint8))
            large = stats[:, cv2.CC_STAT_AREA] >= least_area
            large[0] = False
            if not large.any():
                break
            highest_of_class[large[numbers]] = step
    return np.minimum(levels, highest * STEP + (STEP - 1))


def step_of(probability: float) -> int:
    """Return the step of a threshold, 1 to 255, rounded up: never less strict."""
    return step_of_logit(math.log(probability / (1 - probability)))


def step_of_logit(logit: float) -> int:
    """Return the step of the threshold that a logit does not exceed."""
    return min(max(math.ceil((logit - LOWEST) * PER_LOGIT / STEP), 1), 255)


def probability_of(step: float) -> float:
    """Return the probability at a step of the threshold."""
    return 1 / (1 + math.exp(-(step * STEP / PER_LOGIT + LOWEST)))


@dataclass(frozen=True)
class Find:
    """What was found on an image."""

    levels: Levels
    """Of each class ``(K, H, W)``."""
    names: list[str]
    """The classes."""
    made_by: str
    """What stands for the decisions that it follows from."""

    @property
    def peaks(self) -> list[int]:
        """The largest level of each class."""
        return [int(peak) for peak in self.levels.max((1, 2))]

    def best(self, steps: list[int]) -> tuple[NDArray[np.uint8], Levels]:
        """Return the class ``(H, W)`` that exceeds its threshold most, 1 being the first, and its level ``(H, W)``.

        Args:
            steps: The threshold of each class.
        """
        limits = np.asarray(steps, np.int32)[:, None, None] * STEP
        best = (self.levels.astype(np.int32) - limits).argmax(0) if len(steps) > 1 else np.zeros_like(self.levels[0])
        return (best + 1).astype(np.uint8), np.take_along_axis(self.levels, best[None].astype(np.int64), 0)[0]

    def found(self, steps: list[int]) -> tuple[NDArray[np.uint8], Levels]:
        """Return the class of each pixel ``(H, W)`` at thresholds, 0 where nothing is found, and its level."""
        best, levels = self.best(steps)
        return np.where(levels >= np.asarray(steps)[best - 1] * STEP, best, 0).astype(np.uint8), levels


class About(NamedTuple):
    """What is known of a find without reading its pixels."""

    names: list[str]
    made_by: str
    peaks: list[int]

    def score(self, steps: list[int]) -> int:
        """Return the largest level of the classes that reach their threshold, else the largest of all."""
        reached = [peak for peak, step in zip(self.peaks, steps, strict=True) if peak >= step * STEP]
        return max(reached or self.peaks)


class Finds:
    """What was found on the images of a folder, one file per image.

    Args:
        folder: Where the files lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[Path, tuple[int, About]] = {}
        self._cache: LRUCache[tuple[str, int], Find] = LRUCache(KEPT_BYTES, getsizeof=lambda find: find.levels.nbytes)

    def write(self, stem: Path, find: Find) -> None:
        """Keep what was found on an image."""
        about = PngImagePlugin.PngInfo()
        about.add_itxt(ABOUT, json.dumps(About(find.names, find.made_by, find.peaks)._asdict()))
        buffer = io.BytesIO()
        stacked = find.levels.reshape(-1, find.levels.shape[-1])
        Image.fromarray(stacked).save(buffer, "PNG", compress_level=1, pnginfo=about)
        with written_whole(self._file(stem)) as file:
            file.write(buffer.getbuffer())

    def read(self, stem: Path, size: tuple[int, int]) -> Find | None:
        """Read what was found on an image of a height and width; ``None`` if nothing was sought there."""
        file = self._file(stem)
        if not file.is_file():
            return None
        key = (str(stem), file.stat().st_mtime_ns)
        find = self._cache.get(key)
        if find is not None:
            return find
        about = self.about(stem)
        with Image.open(file) as image:
            stacked = np.asarray(image).astype(np.uint16)
        if about is None or stacked.shape != (size[0] * len(about.names), size[1]):
            return None  # the image is another one now
        find = Find(stacked.reshape(len(about.names), *size), about.names, about.made_by)
        if find.levels.nbytes <= KEPT_BYTES:
            self._cache[key] = find
        return find

    def about(self, stem: Path) -> About | None:
        """Return what is known of a find without reading its pixels; ``None`` if there is none."""
        file = self._file(stem)
        try:
            written, known = file.stat().st_mtime_ns, self._known.get(stem)
            if known is None or known[0] != written:
                with Image.open(file) as image:
                    known = self._known[stem] = (written, About(**json.loads(image.info[ABOUT])))
            return known[1]
        except FileNotFoundError:
            return None
        except (OSError, KeyError, TypeError, ValueError) as error:
            logger.warning("%s cannot be read (%r): the image is searched anew.", file, error)
            return None

    def _file(self, stem: Path) -> Path:
        return self.folder / f"{stem}.png"


@dataclass(frozen=True)
class FoundRegion:
    """A connected region that was found."""

    number: int
    """Of its class."""
    box: tuple[int, int, int, int]
    """Left, top, width and height in pixels."""
    mask: NDArray[np.bool_]
    """Its pixels within the box."""
    level: int
    """Its largest level."""


def regions_of(classes: NDArray[np.uint8], levels: Levels) -> list[FoundRegion]:
    """List connected regions (8-connected) of a class map ``(H, W)``, the largest first."""
    found = []
    for number in sorted(set(np.unique(classes).tolist()) - {0}):
        count, labels, stats, _ = cv2.connectedComponentsWithStats((classes == number).astype(np.uint8), connectivity=8)
        for i in range(1, count):
            left, top, width, height = (int(value) for value in stats[i, :4])
            window = (slice(top, top + height), slice(left, left + width))
            mask = labels[window] == i
            found.append(FoundRegion(number, (left, top, width, height), mask, int(levels[window][mask].max())))
    return sorted(found, key=lambda region: -int(region.mask.sum()))


def region_at(regions: list[FoundRegion], x: int, y: int, reach: int) -> FoundRegion | None:
    """Return the region at a pixel, or the nearest one whose box is within a reach of it."""

    def distance(region: FoundRegion) -> float:
        left, top, width, height = region.box
        if left <= x < left + width and top <= y < top + height and region.mask[y - top, x - left]:
            return -1
        return max(left - x, x - left - width + 1, top - y, y - top - height + 1, 0)

    nearest = min(regions, key=distance, default=None)
    return nearest if nearest is not None and distance(nearest) <= reach else None
