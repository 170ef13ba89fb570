"""Few-shot anomaly detection of the paper (step 10): the abnormal prior, largest over the layers, nothing trained."""

from collections.abc import Sequence

import torch
from torch import Tensor

from anomalib_sofs.model.backbone import Backbone
from anomalib_sofs.model.encoding import Encoding
from anomalib_sofs.model.episodes import Features
from anomalib_sofs.model.normality.detector import AnomalyDetector
from anomalib_sofs.windows import Windows

from .background import abnormal_priors, encode_background
from .features import paper_features


class AbnormalPriorDetector(AnomalyDetector):
    """One minus the largest cosine with any cell of the normal support.

    Args:
        windows: What windows it takes.
        scale_features: Divide features by their mean magnitude.
        coreset: Keep a coreset of each layer's cells: a share of them (0.1) or a number (1000). ``None`` keeps all.
    """

    def __init__(self, windows: Windows, *, scale_features: bool = False, coreset: float | None = None) -> None:
        super().__init__(windows)
        self.scale_features = scale_features
        self.coreset = coreset

    def features(self, backbone: Backbone, windows: Tensor) -> Features:
        """Extract the backbone's layers on one grid."""
        return paper_features(backbone, windows, scaled=self.scale_features)

    def describe(self, views: Sequence[Features], sources: Sequence[int]) -> Encoding:
        """Collect the cells of normal crops: all of them are background."""
        del sources
        cells = [[layer.flatten(2) for layer in layers] for layers in zip(*views, strict=True)]
        joined = [torch.cat(layer, dim=2)[..., None] for layer in cells]
        return encode_background(joined, torch.zeros_like(joined[0][:, 0]), size=self.coreset)

    def distances(self, features: Features, encoding: Encoding) -> list[Tensor]:
        """Return the abnormal prior, maximum over layers ``(B, 1, h, w)``."""
        return [abnormal_priors(features, encoding).amax(dim=1, keepdim=True)]

    def combine(self, found: Sequence[Tensor], encoding: Encoding) -> Tensor:
        """Leave it as it is: step 10 knows no units."""
        del encoding
        return found[0]

    def score(self, maps: Tensor) -> Tensor:
        """Return the maximum of a map ``(B, 1, H, W)``."""
        return maps.amax(dim=(1, 2, 3))
