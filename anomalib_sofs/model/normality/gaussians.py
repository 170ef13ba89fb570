"""The default anomaly detector: how far a cell leaves the space of each normal support image.

Per layer and support image one Gaussian with a strongly shrunk covariance: directions the normal image does not use
count most, as in a subspace residual, but without a rank to choose. A cell is as odd as its best matching support image
finds it: pooling the images instead would make their differences look normal.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs.model.backbone import Backbone
from anomalib_sofs.model.encoding import Encoding
from anomalib_sofs.model.episodes import Features
from anomalib_sofs.windows import Windows

from .detector import AnomalyDetector

LAYERS = slice(2, 5)
"""Strides 8, 16 and 32, of the image itself."""
MULTIPLE = 16
"""Sides of a window in pixels: less continuation by reflection, which is never quite normal."""
SHRINKAGE = 1.0
"""Share of the mean variance added to every direction."""


class NormalSpace(NamedTuple):
    """Normal support cells of one layer, k support images."""

    mean: Tensor  # (k, C)
    whiten: Tensor  # (k, C, C)
    offset: Tensor  # (k,) mean distance of the support image's own cells
    spread: Tensor  # (k,) their standard deviation


def encode_normal(features: Sequence[Tensor]) -> NormalSpace:
    """Describe one layer of the normal support images.

    Args:
        features: Per support image ``(C, h, w)``; sizes may differ.
    """
    spaces = []
    for feature in features:
        x = feature.flatten(1).T
        correction = min(1, len(x) - 1)  # an image of up to 32 pixels is a single coarse cell, which has no spread
        mean, std = x.mean(0), x.std(0, correction=correction) + 1e-3
        z = (x - mean) / std
        variance, axes = torch.linalg.eigh(z.T @ z / len(z))
        whiten = axes / (variance + SHRINKAGE * variance.mean()).clamp_min(1e-6).sqrt() / len(variance) ** 0.5
        distance = (z @ whiten).norm(dim=1)
        spread = distance.std(correction=correction).clamp_min(1e-4)
        spaces.append((mean, whiten / std[:, None], distance.mean(), spread))
    return NormalSpace(*(torch.stack(parts) for parts in zip(*spaces, strict=True)))


def distance(feature: Tensor, space: NormalSpace) -> Tensor:
    """Return the distance of each cell from the nearest support image's space, 0 on average for its own cells.

    Args:
        feature: ``(B, C, h, w)``.
        space: The layer's normal support cells.

    Returns:
        ``(B, 1, h, w)``.
    """
    b, _, h, w = feature.shape
    x = feature.flatten(2).transpose(1, 2)[:, None]  # (B, 1, n, C)
    away = ((x - space.mean[:, None]) @ space.whiten).norm(dim=3)  # (B, k, n)
    away = (away - space.offset[:, None]) / space.spread[:, None]
    return away.amin(1).view(b, 1, h, w)


def _blurred(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def anomaly_maps(features: Sequence[Tensor], spaces: Sequence[NormalSpace]) -> Tensor:
    """Return the anomaly map and the map that the image score is read from.

    The map needs the fine layers; whether a part is odd as a whole shows in the coarse ones, as the spread of the
    distance over the image (its mean follows light and position, its spread does not).

    Args:
        features: Strides 8, 16 and 32 of the image at its own size, continued to a multiple of 16 pixels,
            ``(B, C_l, h_l, w_l)``.
        spaces: One per layer.

    Returns:
        ``(B, 2, h_8, w_8)``: the map, and the coarse map of which :func:`image_score` takes the spread.
    """
    fine, middle, coarse = (distance(f, s) for f, s in zip(features, spaces, strict=True))
    pixel = _blurred((fine + _like(middle, fine)) / 2)
    part = _blurred((middle + _like(coarse, middle)) / 2)
    return torch.cat([pixel, _like(part, fine)], dim=1)


def image_score(part: Tensor) -> Tensor:
    """Return the score ``(B,)`` of coarse maps ``(B, H, W)``: their standard deviation."""
    return part.flatten(1).std(dim=1, correction=0)  # 0 for a single pixel


def _like(x: Tensor, other: Tensor) -> Tensor:
    return F.interpolate(x, size=other.shape[-2:], mode="bilinear", align_corners=False)


class GaussianDetector(AnomalyDetector):
    """One shrunk Gaussian per layer and support crop; the nearest one counts.

    Args:
        window_size: Largest side of a window in pixels.
    """

    def __init__(self, window_size: int = 512) -> None:
        super().__init__(Windows(window_size, MULTIPLE))

    def features(self, backbone: Backbone, windows: Tensor) -> Features:
        """Extract strides 8, 16 and 32 at native scale."""
        return backbone(windows, LAYERS)

    def describe(self, features: Sequence[Features]) -> Encoding:
        """Encode normal crops: one space per layer."""
        encoding: Encoding = {}
        for i, layer in enumerate(zip(*features, strict=True)):
            space = encode_normal([crop[0] for crop in layer])
            encoding |= {f"{name}_{i}": value for name, value in space._asdict().items()}
        return encoding

    def distances(self, features: Features, encoding: Encoding) -> Tensor:
        """Map features to distances from normality and the coarse map behind the image score, ``(B, 2, h, w)``."""
        spaces = [NormalSpace(*(encoding[f"{name}_{i}"] for name in NormalSpace._fields)) for i in range(len(features))]
        return anomaly_maps(features, spaces)

    def score(self, maps: Tensor) -> Tensor:
        """Image score of merged maps ``(B, 2, H, W)``: the spread of the coarse one."""
        return image_score(maps[:, 1])
