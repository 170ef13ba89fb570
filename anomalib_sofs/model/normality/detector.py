"""Few-shot anomaly detection: an object of its own beside the segmentation head.

Maps and scores lie in [0, 1] whatever the method and its units: the support images themselves tell where normal ends.
Each is compared with the others; what is found there is normal.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs.annotations.labels import DEFECT
from anomalib_sofs.arrays import full_precision
from anomalib_sofs.model.backbone import Backbone
from anomalib_sofs.model.encoding import Encoding, SupportEncoding
from anomalib_sofs.model.episodes import Features
from anomalib_sofs.model.least_area import drop_small
from anomalib_sofs.model.resizing import shrunk
from anomalib_sofs.model.support_crops import SupportCrops
from anomalib_sofs.windows import Windows, apply_in_windows

from .held_out import held_out

SIGMAS = 1.0
"""Standard deviations above held-out normal views from which an image counts as defective."""
LIMIT = 0.5
"""What the limits of distances become."""
LEAST_SCALE = 1e-6
LEAST_SPREAD = 0.1
"""Least standard deviation of scores, in units of what normal cells score: a few views may happen to agree."""


class Prediction(NamedTuple):
    """What is found in B images."""

    maps: Tensor
    """Per class ``(B, K, H, W)``, in [0, 1]."""
    score: Tensor
    """``(B,)``, in [0, 1]."""


class AnomalyDetector(nn.Module, ABC):
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

    def __init__(self, windows: Windows) -> None:
        super().__init__()
        self.windows = windows

    @abstractmethod
    def features(self, backbone: Backbone, windows: Tensor) -> Features:
        """Extract features of normalised windows ``(n, 3, h, w)``, one ``(n, D_l, h_l, w_l)`` per layer."""

    @abstractmethod
    def describe(self, views: Sequence[Features], sources: Sequence[int]) -> Encoding:
        """Describe what is normal.

        Args:
            views: Features of crops, ``(1, D_l, h_l, w_l)`` per layer.
            sources: Number of the image that each of them shows, ascending.
        """

    @abstractmethod
    def distances(self, features: Features, encoding: Encoding) -> list[Tensor]:
        """Return how far cells are from normal, in units of their own: one ``(B, 1, h, w)`` per kind of distance."""

    @abstractmethod
    def combine(self, found: Sequence[Tensor], encoding: Encoding) -> Tensor:
        """Join distances in the units of ``offset`` and ``scale`` of the encoding, one of each per kind of distance.

        Returns:
            ``(B, C, h, w)``: the anomaly map, then what the score is read from.
        """

    @abstractmethod
    def score(self, maps: Tensor) -> Tensor:
        """Reduce the maps of :meth:`combine`, of cells or of pixels, to a score per image ``(B,)``."""

    def encode(self, backbone: Backbone, crops: SupportCrops) -> dict[str, Encoding]:
        """Describe what is normal, and learn from it units and where normal ends.

        Returns:
            One encoding, in which ``pixel_limit`` and ``score_limit`` are the distances that become 0.5, and
            ``pixel_scale`` and ``score_scale`` how far beyond them 0.75 lies.
        """
        views = list(crops.features(partial(self._precise_features, backbone)))
        with full_precision(views[0][0]):
            found = [self.distances(part, self.describe(*rest)) for rest, part in held_out(views, crops.sources)]
            pooled = [torch.cat([kind.flatten() for kind in kinds]) for kinds in zip(*found, strict=True)]
            encoding = self.describe(views, crops.sources) | {
                "offset": torch.stack([kind.mean() for kind in pooled]),
                "scale": torch.stack([kind.std(correction=0) for kind in pooled]).clamp_min(LEAST_SCALE),
            }
            maps = [self.combine(kinds, encoding) for kinds in found]
            scores = torch.cat([self.score(m) for m in maps])
            encoding["pixel_limit"] = torch.stack([m[:, 0].amax() for m in maps]).mean()
            encoding["pixel_scale"] = (
                torch.cat([m[:, 0].flatten() for m in maps]).std(correction=0).clamp_min(LEAST_SCALE)
            )
            encoding["score_scale"] = scores.std(correction=0).clamp_min(LEAST_SPREAD)
            encoding["score_limit"] = scores.mean() + SIGMAS * encoding["score_scale"]
        return {DEFECT: encoding}

    def _precise_features(self, backbone: Backbone, windows: Tensor) -> Features:
        """Extract features in float32: what counts are small differences between similar cells."""
        with full_precision(windows):
            return self.features(backbone, windows)

    def predict(
        self, backbone: Backbone, image: Tensor, support: SupportEncoding, inside: Tensor | None = None
    ) -> Prediction:
        """Compare normalised images ``(B, 3, H, W)`` of any size with what is normal.

        Pixels that are not ``inside (B or 1, 1, H, W)`` count for nothing. Where all regions are too small, the score
        is 0.5 at most.
        """
        (encoding,) = support.encodings
        distances, score = self.detect(backbone, image, support, inside)
        maps = squashed(distances, encoding["pixel_limit"], encoding["pixel_scale"])
        score = squashed(score, encoding["score_limit"], encoding["score_scale"])
        if inside is not None:
            maps = maps.masked_fill(~inside, 0)
        if support.least_area > 1:
            before = maps.amax((1, 2, 3)) > LIMIT
            maps = drop_small(maps, support.least_area)
            score = torch.where(before & (maps.amax((1, 2, 3)) <= LIMIT), score.clamp_max(LIMIT), score)
        return Prediction(maps, score)

    def detect(
        self, backbone: Backbone, image: Tensor, support: SupportEncoding, inside: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the distances behind a prediction: maps ``(B, 1, H, W)`` and scores ``(B,)``.

        Pixels that are not ``inside (B or 1, 1, H, W)`` have the lowest distance of the map, and do not count for the
        score.
        """
        (encoding,) = support.encodings
        query = shrunk(image, self.windows) if support.whole else image

        def segment(windows: Tensor) -> Tensor:
            with full_precision(windows):
                features = self.features(backbone, windows)
                cells = self.combine(self.distances(features, encoding), encoding)
            return F.interpolate(cells, size=windows.shape[-2:], mode="bilinear", align_corners=False)

        maps = apply_in_windows(query, segment, self.windows)
        score = self.score(maps) if inside is None else self._score_inside(maps, inside)
        if support.whole:
            maps = F.interpolate(maps[:, :1], size=image.shape[-2:], mode="bilinear", align_corners=False)
        maps = maps[:, :1]
        return (maps if inside is None else torch.where(inside, maps, maps.amin())), score

    def _score_inside(self, maps: Tensor, inside: Tensor) -> Tensor:
        """Score the part of each image that counts; a pixel of a smaller map does, if any that it stands for does."""
        cells = F.adaptive_max_pool2d(inside.float(), (maps.shape[-2], maps.shape[-1])) > 0
        rows = zip(maps, cells.expand(len(maps), -1, -1, -1), strict=True)
        return torch.cat([self.score(row[None, :, None, part[0]]) for row, part in rows])


def squashed(distance: Tensor, limit: Tensor, scale: Tensor) -> Tensor:
    """Map distances to [0, 1] in their order, 0.5 at the limit; unlike a sigmoid it does not saturate early."""
    beyond = (distance - limit) / scale
    return 0.5 + 0.5 * beyond / (1 + beyond.abs())
