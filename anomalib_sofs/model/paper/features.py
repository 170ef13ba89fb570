"""Feature maps of the paper: the chosen layers of the backbone on one patch grid."""

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs.model.backbone import Backbone


def paper_features(backbone: Backbone, windows: Tensor, *, scaled: bool) -> list[Tensor]:
    """Extract the layers of windows ``(n, 3, h, w)``, on one grid and, if asked for, of one scale.

    Args:
        backbone: The backbone.
        windows: Normalised images, sides multiples of the layers' strides.
        scaled: See :func:`unit_scale`.

    Returns:
        One ``(n, D_l, h / stride, w / stride)`` per layer.
    """
    layers = to_finest_grid(backbone(windows))
    return unit_scale(layers) if scaled else layers


def to_finest_grid(features: list[Tensor]) -> list[Tensor]:
    """Resample all layers to the finest layer's grid (bilinear); nothing happens where they agree."""
    grid = max((layer.shape[-2:] for layer in features), key=lambda shape: shape[-1])
    return [
        layer if layer.shape[-1] == grid[-1] else F.interpolate(layer, size=grid, mode="bilinear", align_corners=False)
        for layer in features
    ]


def unit_scale(features: list[Tensor]) -> list[Tensor]:
    """Divide each layer by its mean magnitude per image, so that logits do not follow the backbone's feature scale."""
    return [layer / (layer.norm(dim=1).mean(dim=(1, 2))[:, None, None, None] + 1e-6) for layer in features]
