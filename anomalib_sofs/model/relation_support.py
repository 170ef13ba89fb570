"""The support half of the relations: what separates the marked defect from its background, in closed form."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from .relations import SupportRelations, surround

DEFECT_CELLS, BACKGROUND_CELLS = 32, 64
"""Exemplars kept for the nearest-neighbour maps."""


def _shrunk(covariance: Tensor, amount: float) -> Tensor:
    eye = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    return covariance + amount * covariance.diagonal().mean() * eye


def _discriminant(covariance: Tensor, contrast: Tensor, amount: float) -> Tensor:
    """Return the Fisher direction scaled so that the contrast has length 1 along it."""
    w = torch.linalg.solve(_shrunk(covariance, amount), contrast)
    return w / (w @ contrast).clamp_min(1e-6)


def _quantile(x: Tensor, q: float) -> Tensor:
    return x.kthvalue(max(1, int(q * len(x))))[0]  # torch.quantile is limited to 16M elements


def _chosen(x: Tensor, count: int) -> Tensor:
    """Return ``count`` rows, drawn without replacement where there are enough (always the same ones)."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0)).to(x.device)
    return x[order[torch.arange(count, device=x.device) % len(x)]]


def _exemplars(x: Tensor, count: int, whiten: Tensor) -> Tensor:
    return F.normalize(_chosen(x, count) @ whiten, dim=1)


def _mean_of(tensors: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(tensors)).mean(0)


def _weighted_mean(x: Tensor, weights: Tensor) -> Tensor:
    return (x * weights[:, None]).sum(0) / weights.sum()


class _Cells(NamedTuple):
    """Cells of one support image, centred on its own background."""

    mean: Tensor  # (C,)
    background: Tensor  # (n, C)
    defect: Tensor  # (d, C)
    share: Tensor  # (d,) mask share of the defect cells
    local_background: Tensor  # (n, C)
    local_defect: Tensor  # (d, C)


def _background(mask: Tensor) -> Tensor:
    """Choose background cells ``(h, w)``: one cell clear of the defect, unless that leaves next to none."""
    for clear in (F.max_pool2d((mask > 0).float()[None, None], 3, 1, 1)[0, 0] == 0, mask == 0):
        if clear.sum() >= 0.02 * mask.numel():
            return clear
    return mask <= _quantile(mask.flatten(), 0.05)


def _cells(grid: Tensor, mask: Tensor) -> _Cells:
    bg, share = _background(mask).flatten(), mask.flatten()
    hit = share > 0
    x = grid.flatten(1).T
    mean = x[bg].mean(0)
    local = (grid - surround(grid[None])[0]).flatten(1).T
    return _Cells(mean, x[bg] - mean, x[hit] - mean, share[hit], local[bg], local[hit])


def encode_support(
    grids: Sequence[Tensor],
    masks: Sequence[Tensor],
    labels: Sequence[str],
    channels: Sequence[int],
) -> dict[str, SupportRelations]:
    """Reduce annotated images to what a query is compared with.

    Covariance and contrast are taken within each image, against its own background, and averaged, each image counting
    the same: what differs between support images (light, position) must not look like a defect. The background is that
    of all images, whatever their class.

    Args:
        grids: Per support image ``(C, h, w)``, see ``patch_grid``; sizes may differ.
        masks: Per support image the mask share of each cell ``(h, w)``, 0..1; all 0 for a normal image, which adds to
            the background and never dilutes the contrast.
        labels: Per support image its defect class; of no account for normal images.
        channels: Channels of the three layers in the grid, ``(24, 40, 112)``.

    Returns:
        The encoding of each class, by name.

    Raises:
        ValueError: If no support image shows a defect.
    """
    images = [_cells(g, m) for g, m in zip(grids, masks, strict=True)]
    marked: dict[str, list[_Cells]] = {}
    for image, label in zip(images, labels, strict=True):
        if len(image.share):
            marked.setdefault(label, []).append(image)
    if not marked:
        msg = "no support mask marks a defect; few-shot anomaly detection uses the subspace instead"
        raise ValueError(msg)
    scale = 1 / (_mean_of((i.background**2).mean(0) for i in images).sqrt() + 1e-3)
    covariance = _mean_of((i.background * scale).T @ (i.background * scale) / len(i.background) for i in images)
    second = _mean_of(
        (i.local_background * scale).T @ (i.local_background * scale) / len(i.local_background) for i in images
    )
    local_mean = _mean_of(i.local_background.mean(0) for i in images) * scale
    local_covariance = second - local_mean[:, None] * local_mean

    precision = torch.linalg.inv(_shrunk(covariance, 1.0))
    whiten = torch.linalg.cholesky(precision)
    background = _exemplars(torch.cat([i.background for i in images]) * scale, BACKGROUND_CELLS, whiten)
    mean = _mean_of(i.mean for i in images)

    encoded = {}
    for label, rows in sorted(marked.items()):
        contrast = _mean_of(_weighted_mean(i.defect, i.share) for i in rows) * scale
        local_contrast = _mean_of(_weighted_mean(i.local_defect, i.share) for i in rows) * scale - local_mean
        directions = torch.stack(
            [
                *_directions_by_layer(covariance, contrast, channels),
                _discriminant(covariance, contrast, 1.0),
                _discriminant(covariance, contrast, 10.0),
                _discriminant(local_covariance, local_contrast, 1.0),
            ]
        )
        variance = torch.cat([_variance(directions[:-1], covariance), _variance(directions[-1:], second)])
        core = torch.cat([i.defect[i.share >= min(0.5, 0.7 * float(i.share.max()))] for i in rows]) * scale
        encoded[label] = SupportRelations(
            scale, mean, precision, whiten, background, contrast, directions, variance.clamp_min(1e-8).sqrt(),
            _exemplars(core, DEFECT_CELLS, whiten),
        )  # fmt: skip
    return encoded


def _variance(directions: Tensor, covariance: Tensor) -> Tensor:
    return torch.einsum("kc,cd,kd->k", directions, covariance, directions)


def _directions_by_layer(covariance: Tensor, contrast: Tensor, channels: Sequence[int]) -> Iterator[Tensor]:
    """Yield the discriminant of each layer alone ``(C,)``, 0 elsewhere."""
    start = 0
    for width in channels:
        part = slice(start, start + width)
        w = torch.zeros_like(contrast)
        w[part] = _discriminant(covariance[part, part], contrast[part], 1.0)
        yield w
        start += width
