"""Fisher's linear discriminant in closed form: the direction along which a marked defect leaves its background."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


def shrunk(covariance: Tensor, amount: float) -> Tensor:
    """Add ``amount`` times the mean variance to every direction of a covariance ``(C, C)``."""
    eye = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    return covariance + amount * covariance.diagonal().mean() * eye


def discriminant(covariance: Tensor, contrast: Tensor, amount: float) -> Tensor:
    """Return the Fisher direction ``(C,)`` scaled so that the contrast has length 1 along it."""
    w = torch.linalg.solve(shrunk(covariance, amount), contrast)
    return w / (w @ contrast).clamp_min(1e-6)


def directions_by_layer(covariance: Tensor, contrast: Tensor, channels: Sequence[int]) -> Iterator[Tensor]:
    """Yield the discriminant of each layer alone ``(C,)``, 0 elsewhere."""
    start = 0
    for width in channels:
        part = slice(start, start + width)
        w = torch.zeros_like(contrast)
        w[part] = discriminant(covariance[part, part], contrast[part], 1.0)
        yield w
        start += width


def variance(directions: Tensor, covariance: Tensor) -> Tensor:
    """Return the variance ``(k,)`` along directions ``(k, C)``."""
    return torch.einsum("kc,cd,kd->k", directions, covariance, directions)


def mean_of(tensors: Iterable[Tensor]) -> Tensor:
    """Return the mean of tensors of one shape."""
    return torch.stack(list(tensors)).mean(0)


def weighted_mean(x: Tensor, weights: Tensor) -> Tensor:
    """Return the mean ``(C,)`` of rows ``(n, C)``."""
    return (x * weights[:, None]).sum(0) / weights.sum()


LEAST_SHARE = 0.02
"""Share of the cells that a background needs, so that its statistics mean something."""


def clear_background(mask: Tensor, ignored: Tensor | None = None) -> Tensor:
    """Choose background cells ``(h, w)``: one cell clear of the defect, unless that leaves next to none.

    Args:
        mask: Share of each cell that is defect ``(h, w)``, 0..1.
        ignored: Share of each cell that is neither defect nor background ``(h, w)``; ``None`` for none.
    """
    usable = torch.ones_like(mask, dtype=torch.bool) if ignored is None else ignored == 0
    for clear in (F.max_pool2d((mask > 0).float()[None, None], 3, 1, 1)[0, 0] == 0, mask == 0):
        if (clear & usable).sum() >= LEAST_SHARE * mask.numel():
            return clear & usable
    least = mask.flatten().kthvalue(max(1, int(0.05 * mask.numel())))[0]  # torch.quantile is limited to 16M elements
    return mask <= least
