"""Few-shot anomaly detection: an object of its own beside the segmentation head.

Maps and scores lie in [0, 1] whatever the method and its units: the support images themselves tell where normal ends.
Each is compared with the others; what is found there is normal.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from array_api_compat import array_namespace

from anomalib_sofs.annotations.labels import DEFECT
from anomalib_sofs.arrays import Array, bilinear, full_precision, highest_around
from anomalib_sofs.model.least_area import drop_small
from anomalib_sofs.model.resizing import resize_mask, shrunk
from anomalib_sofs.model.support_crops import Features, SupportCrops
from anomalib_sofs.windows import Windows, apply_in_windows

from .held_out import held_out

Encoding = dict[str, Array]
Extractor = Any
"""A backbone: takes windows ``(n, 3, h, w)`` and which of its layers are wanted, and returns features."""

SIGMAS, SIGMAS_OF_ONE = 1.0, 2.0
"""Standard deviations above held-out normal views from which an image counts as defective; the second with a single
support image, whose own views do not tell how its kind varies."""
LIMIT = 0.5
"""What the limits of distances become."""
LEAST_SCALE = 1e-6
LEAST_SHARE = 1e-6
"""Of a pixel of a smaller map that counts; less is rounding."""
LEAST_SPREAD = 0.1
"""Least standard deviation of scores, in units of what normal cells score: a few views may happen to agree."""


class Prediction(NamedTuple):
    """What is found in B images."""

    maps: Array
    """Per class ``(B, K, H, W)``, in [0, 1]."""
    score: Array
    """``(B,)``, in [0, 1]."""


class Described(Protocol):
    """What a prediction reads of a support encoding."""

    @property
    def encodings(self) -> Sequence[Encoding]:
        """The arrays of each class."""

    @property
    def whole(self) -> bool:
        """Whether images are seen whole, resized to a window."""

    @property
    def least_area(self) -> int:
        """Pixels of the smallest region that counts."""


class AnomalyDetector(ABC):
    """Finds whatever a few normal images do not show.

    Args:
        windows: What windows it takes.
    """

    background_windows = 0
    """There are no marks to look beside."""
    weighs_rejected = False
    turns: Sequence[int] = (0,)
    """Quarter turns in which support images are seen."""
    resizes_large = False
    """Whether images larger than a window are resized to it instead of being cut."""
    resizes_all = False

    def __init__(self, windows: Windows) -> None:
        self.windows = windows

    @abstractmethod
    def features(self, backbone: Extractor, windows: Array) -> Features:
        """Extract features of normalised windows ``(n, 3, h, w)``, one ``(n, D_l, h_l, w_l)`` per layer."""

    @abstractmethod
    def describe(self, views: Sequence[Features], sources: Sequence[int]) -> Encoding:
        """Describe what is normal.

        Args:
            views: Features of crops, ``(1, D_l, h_l, w_l)`` per layer.
            sources: Number of the image that each of them shows, ascending.
        """

    @abstractmethod
    def distances(self, features: Features, encoding: Encoding) -> list[Array]:
        """Return how far cells are from normal, in units of their own: one ``(B, 1, h, w)`` per kind of distance."""

    @abstractmethod
    def combine(self, found: Sequence[Array], encoding: Encoding) -> Array:
        """Join distances in the units of ``offset`` and ``scale`` of the encoding, one of each per kind of distance.

        Returns:
            ``(B, C, h, w)``: the anomaly map, then what the score is read from.
        """

    @abstractmethod
    def score(self, maps: Array) -> Array:
        """Reduce the maps of :meth:`combine`, of cells or of pixels, to a score per image ``(B,)``."""

    def encode(self, backbone: Extractor, crops: SupportCrops) -> dict[str, Encoding]:
        """Describe what is normal, and learn from it units and where normal ends.

        Returns:
            One encoding, in which ``pixel_limit`` and ``score_limit`` are the distances that become 0.5, and
            ``pixel_scale`` and ``score_scale`` how far beyond them 0.75 lies.
        """
        views = list(crops.features(partial(self._precise_features, backbone)))
        with full_precision(views[0][0]):
            parts = list(held_out(views, crops.sources))
            found = [self.distances(part.part, self.describe(part.rest, part.sources)) for part in parts]
            xp = array_namespace(views[0][0])
            pooled = [xp.concat([xp.reshape(kind, (-1,)) for kind in kinds]) for kinds in zip(*found, strict=True)]
            encoding = self.describe(views, crops.sources) | {
                "offset": xp.stack([xp.mean(kind) for kind in pooled]),
                "scale": xp.stack([xp.std(kind) for kind in pooled]).clip(LEAST_SCALE, None),
            }
            maps = [self.combine(kinds, encoding) for kinds in found]
            pixels = [xp.reshape(m[:, 0, ...], (-1,)) for m in maps]
            scores = xp.concat([self.score(m) for m, part in zip(maps, parts, strict=True) if part.typical])
            images = len(set(crops.sources))
            if images > 1:
                scores += (self._scores_beside_turned(views, crops.sources, encoding) - scores) / images
            encoding["pixel_limit"] = xp.mean(xp.stack([xp.max(values) for values in pixels]))
            encoding["pixel_scale"] = xp.std(xp.concat(pixels)).clip(LEAST_SCALE, None)
            encoding["score_scale"] = xp.std(scores).clip(LEAST_SPREAD, None)
            sigmas = SIGMAS if images > 1 else SIGMAS_OF_ONE
            encoding["score_limit"] = xp.mean(scores) + sigmas * encoding["score_scale"]
        return {DEFECT: encoding}

    def _scores_beside_turned(self, views: Sequence[Features], sources: Sequence[int], encoding: Encoding) -> Array:
        """Score each of several images, as it lies, where its own turned views are normal, too.

        An image that is left out is compared with k - 1 others, a query with k: it scores too high, two images most of
        all. With its turned views it scores too low. The share 1/k of the second leads from all of it, with a single
        image, to none.
        """
        found = (
            self.distances(part.part, self.describe(part.rest, part.sources))
            for part in held_out(list(views), sources, as_it_lies=True)
        )
        return array_namespace(views[0][0]).concat([self.score(self.combine(kinds, encoding)) for kinds in found])

    def _precise_features(self, backbone: Extractor, windows: Array) -> Features:
        """Extract features in float32: what counts are small differences between similar cells."""
        with full_precision(windows):
            return self.features(backbone, windows)

    def predict(self, backbone: Extractor, image: Array, support: Described, inside: Array | None = None) -> Prediction:
        """Compare normalised images ``(B, 3, H, W)`` of any size with what is normal.

        Pixels that are not ``inside (B or 1, 1, H, W)`` count for nothing. Where all regions are too small, the score
        is 0.5 at most.
        """
        (encoding,) = support.encodings
        distances, score = self.detect(backbone, image, support, inside)
        maps = squashed(distances, encoding["pixel_limit"], encoding["pixel_scale"])
        score = squashed(score, encoding["score_limit"], encoding["score_scale"])
        xp = array_namespace(maps)
        if inside is not None:
            maps = xp.where(inside, maps, xp.zeros_like(maps))
        if support.least_area > 1:
            before = xp.max(maps, axis=(1, 2, 3)) > LIMIT
            maps = drop_small(maps, support.least_area)
            score = xp.where(before & (xp.max(maps, axis=(1, 2, 3)) <= LIMIT), score.clip(None, LIMIT), score)
        return Prediction(maps, score)

    def detect(
        self, backbone: Extractor, image: Array, support: Described, inside: Array | None = None
    ) -> tuple[Array, Array]:
        """Return the distances behind a prediction: maps ``(B, 1, H, W)`` and scores ``(B,)``.

        Pixels that are not ``inside (B or 1, 1, H, W)`` have the lowest distance of the map, and do not count for the
        score.
        """
        maps = self._maps(backbone, image, support)
        score = self.score(maps) if inside is None else self._score_inside(maps, inside)
        maps = maps[:, :1, ...]
        if support.whole:
            maps = bilinear(maps, image.shape[-2:])
        if inside is None:
            return maps, score
        xp = array_namespace(maps)
        return xp.where(inside, maps, xp.min(maps)), score

    def deviation(self, backbone: Extractor, image: Array, support: Described) -> Array:
        """Return how far beyond normal images ``(B, 3, H, W)`` are at, or right beside, each pixel.

        Returns:
            ``(B, 1, H, W)``: 0 for what :meth:`predict` makes 0.5, 1 for what it makes 0.75.
        """
        (encoding,) = support.encodings
        maps = self._maps(backbone, image, support, around=True)
        if support.whole:
            maps = bilinear(maps, image.shape[-2:])
        return (maps - encoding["pixel_limit"]) / encoding["pixel_scale"]

    def _maps(self, backbone: Extractor, image: Array, support: Described, *, around: bool = False) -> Array:
        """Return the maps of :meth:`combine` of images ``(B, 3, H, W)`` at the size in which they are seen.

        With ``around`` it is the anomaly map alone, each cell as high as the highest of it and the eight around it.
        """
        (encoding,) = support.encodings

        def segment(windows: Array) -> Array:
            with full_precision(windows):
                features = self.features(backbone, windows)
                cells = self.combine(self.distances(features, encoding), encoding)
            return highest_around(cells[:, :1, ...]) if around else cells

        return apply_in_windows(shrunk(image, self.windows) if support.whole else image, segment, self.windows)

    def _score_inside(self, maps: Array, inside: Array) -> Array:
        """Score the part of each image that counts; a pixel of a smaller map does, if any that it stands for does."""
        xp = array_namespace(maps)
        cells = xp.reshape(resize_mask(inside, (maps.shape[-2], maps.shape[-1])) > LEAST_SHARE, (inside.shape[0], -1))
        rows = xp.reshape(maps, (*maps.shape[:2], -1))
        parts = (rows[i : i + 1, :, cells[i % inside.shape[0], :]] for i in range(maps.shape[0]))
        return xp.concat([self.score(part[:, :, None, :]) for part in parts])


def squashed(distance: Array, limit: Array, scale: Array) -> Array:
    """Map distances to [0, 1] in their order, 0.5 at the limit; unlike a sigmoid it does not saturate early."""
    beyond = (distance - limit) / scale
    return 0.5 + 0.5 * beyond / (1 + array_namespace(beyond).abs(beyond))
