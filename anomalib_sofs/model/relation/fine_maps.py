"""Relations on a grid of 2 native pixels, from the two finest layers: where exactly a defect ends.

The same discriminants as on the grid of 4 pixels, of layers too fine to tell what a defect is.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from .discriminant import clear_background, directions_by_layer, discriminant, mean_of, variance, weighted_mean
from .maps import CLIP, bounded, surround

FINE_RELATIONS = ("stride2", "stride4", "both", "both_stiff", "both_sigma", "local", "local_sigma")
"""Names of the maps in order."""
BOTH = FINE_RELATIONS.index("both")
SHRINKAGE = 0.3, 5.0
"""Of the covariance behind ``both`` and ``both_stiff``."""


class FineRelations(NamedTuple):
    """Encoding of one defect class, C channels (40 for the default backbone)."""

    directions: Tensor  # (4, C) discriminants of features as they are; the defect lies 1 above the background
    sigma: Tensor  # () standard deviation of the background along ``both``


class FineImage(NamedTuple):
    """What stays of one support image."""

    second: Tensor  # (C, C) covariance of the background
    contrast: Tensor | None  # (C,) defect minus background; None for a normal image


def fine_grid(features: Sequence[Tensor]) -> Tensor:
    """Bring strides 2 and 4 of the enlarged image onto one grid.

    Args:
        features: ``(B, 16, 4h, 4w)`` and ``(B, 24, 2h, 2w)``.

    Returns:
        ``(B, 40, 2h, 2w)``.
    """
    finest, fine = features
    return torch.cat([F.avg_pool2d(finest, 2), fine], dim=1)


def reduce_fine(grid: Tensor, mask: Tensor, ignored: Tensor | None = None) -> FineImage:
    """Reduce one support image.

    Args:
        grid: ``(C, 2h, 2w)``, see :func:`fine_grid`.
        mask: Mask share of each cell ``(2h, 2w)``, 0..1.
        ignored: Share of each cell that is neither defect nor background ``(2h, 2w)``; ``None`` for none.
    """
    planes = torch.stack([mask, torch.zeros_like(mask) if ignored is None else ignored])
    clear = clear_background(*F.avg_pool2d(planes[:, None], 2)[:, 0]).repeat_interleave(2, 0).repeat_interleave(2, 1)
    x, share = grid.flatten(1).T, mask.flatten()
    background = x[clear.flatten()]
    mean = background.mean(0)
    rest, hit = background - mean, share > 0
    contrast = weighted_mean(x[hit] - mean, share[hit]) if bool(hit.any()) else None
    return FineImage(rest.T @ rest / len(rest), contrast)


def encode_fine(
    images: Sequence[FineImage], labels: Sequence[str], channels: Sequence[int]
) -> dict[str, FineRelations]:
    """Merge support images, each counting the same.

    Args:
        images: The images.
        labels: Their defect classes; of no account for normal images.
        channels: Channels of the two layers in the grid, ``(16, 24)``.

    Returns:
        The encoding of each class, by name.
    """
    covariance = mean_of(image.second for image in images)
    scale = 1 / (covariance.diagonal().sqrt() + 1e-3)
    covariance = covariance * scale[:, None] * scale
    contrasts: dict[str, list[Tensor]] = {}
    for image, label in zip(images, labels, strict=True):
        if image.contrast is not None:
            contrasts.setdefault(label, []).append(image.contrast)
    encoded = {}
    for label, rows in sorted(contrasts.items()):
        contrast = mean_of(rows) * scale
        single = directions_by_layer(covariance, contrast, channels)
        both = [discriminant(covariance, contrast, amount) for amount in SHRINKAGE]
        directions = torch.stack([*single, *both])
        sigma = variance(directions, covariance)[BOTH].clamp_min(1e-8).sqrt()
        encoded[label] = FineRelations(directions * scale, sigma)
    return encoded


def relate_fine(grid: Tensor, classes: Sequence[FineRelations]) -> Tensor:
    """Compare every fine cell of the queries with every class of a support set.

    Args:
        grid: ``(B, C, H, W)``, see :func:`fine_grid`.
        classes: The encoded classes, K of them.

    Returns:
        Maps ``(B * K, 7, H, W)``, the classes of one query next to each other.
    """
    b, _, h, w = grid.shape
    k = len(classes)
    directions = torch.stack([s.directions for s in classes])  # (K, 4, C)
    sigma = torch.stack([s.sigma for s in classes])[None, :, None, None]
    along = (directions.flatten(0, 1) @ grid.flatten(2)).view(b, k, -1, h * w)
    # centred on the query's own mean afterwards: there are fewer maps than channels
    along = (along - along.mean(3, keepdim=True)).view(b, k, -1, h, w)
    both = along[:, :, BOTH]
    local = both - surround(both)
    maps = [*along.unbind(2), bounded(both / sigma), local, bounded(local / sigma)]
    return torch.stack(maps, dim=2).clamp(-CLIP, CLIP).view(b * k, -1, h, w)
