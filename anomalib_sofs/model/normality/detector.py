"""Few-shot anomaly detection: an object of its own beside the segmentation head.

Maps and scores lie in [0, 1] whatever the method and its units: the support images themselves tell where normal ends.
Each is compared with the others, or, a single one, each of its quarters with the rest; what is found there is normal.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs.annotations.labels import DEFECT
from anomalib_sofs.model.backbone import Backbone
from anomalib_sofs.model.encoding import Encoding, SupportEncoding
from anomalib_sofs.model.episodes import Features
from anomalib_sofs.model.precision import full_precision
from anomalib_sofs.model.support_crops import SupportCrops
from anomalib_sofs.windows import Windows, apply_in_windows

from .held_out import held_out


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

    turns: Sequence[int] = (0,)
    """Quarter turns in which support crops are seen."""
    resizes_large = False

    def __init__(self, windows: Windows) -> None:
        super().__init__()
        self.windows = windows

    @abstractmethod
    def features(self, backbone: Backbone, windows: Tensor) -> Features:
        """Extract features of normalised windows ``(n, 3, h, w)``, one ``(n, D_l, h_l, w_l)`` per layer."""

    @abstractmethod
    def describe(self, features: Sequence[Features]) -> Encoding:
        """Describe what is normal by the features of some crops, ``(1, D_l, h_l, w_l)`` per layer."""

    @abstractmethod
    def distances(self, features: Features, encoding: Encoding) -> Tensor:
        """Return how far cells are from normal ``(B, C, h, w)``: the anomaly map first, then what the score needs."""

    @abstractmethod
    def score(self, maps: Tensor) -> Tensor:
        """Reduce the merged maps of :meth:`distances` ``(B, C, H, W)`` to a score per image ``(B,)``."""

    def encode(self, backbone: Backbone, crops: SupportCrops) -> dict[str, Encoding]:
        """Describe what is normal, and learn from it where normal ends.

        Returns:
            One encoding, in which ``pixel_limit`` and ``score_limit`` are the distances that become 0.5, and
            ``pixel_scale`` and ``score_scale`` how far beyond them 0.75 lies.
        """
        features = list(crops.features(partial(self.features, backbone)))
        with full_precision(features[0][0]):
            maps = [
                self.distances(left_out, self.describe(rest)) for rest, left_out in held_out(features, crops.sources)
            ]
            pixels = torch.cat([m[:, 0].flatten() for m in maps])
            scores = torch.cat([self.score(m) for m in maps])
            limits = {"pixel": pixels, "score": scores}
            encoding = self.describe(features)
        for name, values in limits.items():
            encoding[f"{name}_limit"] = values.amax()
            encoding[f"{name}_scale"] = (values.amax() - values.mean()).clamp_min(1e-6)
        return {DEFECT: encoding}

    def predict(self, backbone: Backbone, image: Tensor, support: SupportEncoding) -> Prediction:
        """Compare normalised images ``(B, 3, H, W)`` of any size with what is normal."""
        (encoding,) = support.encodings
        maps = self.distance_maps(backbone, image, encoding)
        return Prediction(
            squashed(maps[:, :1], encoding["pixel_limit"], encoding["pixel_scale"]),
            squashed(self.score(maps), encoding["score_limit"], encoding["score_scale"]),
        )

    def distance_maps(self, backbone: Backbone, image: Tensor, encoding: Encoding) -> Tensor:
        """Return the maps of :meth:`distances` for whole images: ``(B, C, H, W)``."""

        def segment(windows: Tensor) -> Tensor:
            features = self.features(backbone, windows)
            with full_precision(features[0]):
                cells = self.distances(features, encoding)
            return F.interpolate(cells, size=windows.shape[-2:], mode="bilinear", align_corners=False)

        return apply_in_windows(image, segment, self.windows)


def squashed(distance: Tensor, limit: Tensor, scale: Tensor) -> Tensor:
    """Map distances to [0, 1] in their order, 0.5 at the limit; unlike a sigmoid it does not saturate early."""
    beyond = (distance - limit) / scale
    return 0.5 + 0.5 * beyond / (1 + beyond.abs())
