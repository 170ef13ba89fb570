"""The support half of the relations: what separates the marked defect from its background, in closed form."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from .discriminant import clear_background, directions_by_layer, discriminant, mean_of, shrunk, variance, weighted_mean
from .maps import SupportRelations, surround

DEFECT_CELLS, BACKGROUND_CELLS = 32, 64
"""Exemplars kept for the nearest-neighbour maps."""
AREAS = (1e-4, 0.5)
"""Least and largest share of a support image that its defect counts as."""


def _chosen(length: int, count: int) -> Tensor:
    """Return ``count`` of ``length`` rows, drawn without replacement where there are enough (always the same ones)."""
    order = torch.randperm(length, generator=torch.Generator().manual_seed(0))
    return order[torch.arange(count) % length]


def _unit_by_layer(x: Tensor, channels: Sequence[int]) -> Tensor:
    return torch.cat([F.normalize(layer, dim=1) for layer in x.split(list(channels), 1)], 1)


class _Image(NamedTuple):
    """What stays of one support image: statistics of its background, and its defect cells.

    All cells are centred on the mean of its own background. Its features are not kept, so that memory stays bounded
    however many images there are.
    """

    mean: Tensor  # (C,)
    second: Tensor  # (C, C) second moment of the background
    local_mean: Tensor  # (C,) of the background less its surroundings
    local_second: Tensor  # (C, C)
    exemplars: Tensor  # (e, C) chosen background cells
    area: Tensor  # () share of the image that is defect
    share: Tensor  # (d,) mask share of the defect cells
    defect: Tensor  # (d, C)
    local_defect: Tensor  # (d, C)


def _reduce(grid: Tensor, mask: Tensor, background: Tensor, exemplars: Tensor) -> _Image:
    bg, share = background.to(grid.device).flatten(), mask.to(grid).flatten()
    hit = share > 0
    x = grid.flatten(1).T
    mean = x[bg].mean(0)
    rest = x[bg] - mean
    local = (grid - surround(grid[None])[0]).flatten(1).T
    local_rest = local[bg]
    return _Image(
        mean, rest.T @ rest / len(rest), local_rest.mean(0), local_rest.T @ local_rest / len(rest),
        rest[exemplars], share.mean(), share[hit], x[hit] - mean, local[hit],
    )  # fmt: skip


def _reduced(grids: Iterable[Tensor], masks: Sequence[Tensor], ignored: Sequence[Tensor]) -> list[_Image]:
    """Reduce the images one by one; the exemplars are drawn from the background cells of all of them."""
    backgrounds = [clear_background(*planes) for planes in zip(masks, ignored, strict=True)]
    ends = torch.tensor([int(background.sum()) for background in backgrounds]).cumsum(0)
    chosen = _chosen(int(ends[-1]), BACKGROUND_CELLS)
    images = []
    for grid, mask, background, end in zip(grids, masks, backgrounds, ends.tolist(), strict=True):
        start = end - int(background.sum())
        inside = chosen[(chosen >= start) & (chosen < end)] - start
        images.append(_reduce(grid, mask, background, inside.to(grid.device)))
    return images


def encode_support(
    grids: Iterable[Tensor],
    masks: Sequence[Tensor],
    labels: Sequence[str],
    channels: Sequence[int],
    ignored: Sequence[Tensor] | None = None,
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
        ignored: Per support image the share of each cell that counts for nothing ``(h, w)``; ``None`` for none.

    Returns:
        The encoding of each class, by name.

    Raises:
        ValueError: If no support image shows a defect.
    """
    images = _reduced(grids, masks, [torch.zeros_like(m) for m in masks] if ignored is None else ignored)
    marked: dict[str, list[_Image]] = {}
    for image, label in zip(images, labels, strict=True):
        if len(image.share):
            marked.setdefault(label, []).append(image)
    if not marked:
        msg = "no support mask marks a defect; few-shot anomaly detection needs none"
        raise ValueError(msg)
    scale = 1 / (mean_of(i.second.diagonal() for i in images).sqrt() + 1e-3)
    both = scale[:, None] * scale
    covariance = mean_of(i.second for i in images) * both
    second = mean_of(i.local_second for i in images) * both
    local_mean = mean_of(i.local_mean for i in images) * scale
    local_covariance = second - local_mean[:, None] * local_mean

    precision = torch.linalg.inv(shrunk(covariance, 1.0))
    background = _unit_by_layer(torch.cat([i.exemplars for i in images]) * scale, channels)
    mean = mean_of(i.mean for i in images)

    encoded = {}
    for label, rows in sorted(marked.items()):
        contrast = mean_of(weighted_mean(i.defect, i.share) for i in rows) * scale
        local_contrast = mean_of(weighted_mean(i.local_defect, i.share) for i in rows) * scale - local_mean
        directions = torch.stack(
            [
                *directions_by_layer(covariance, contrast, channels),
                discriminant(covariance, contrast, 1.0),
                discriminant(covariance, contrast, 10.0),
                discriminant(local_covariance, local_contrast, 1.0),
            ]
        )
        spread = torch.cat([variance(directions[:-1], covariance), variance(directions[-1:], second)])
        core = torch.cat([i.defect[i.share >= min(0.5, 0.7 * float(i.share.max()))] for i in rows]) * scale
        core = core[_chosen(len(core), DEFECT_CELLS).to(core.device)]
        odds = torch.logit(mean_of(i.area for i in rows).clamp(*AREAS))
        encoded[label] = SupportRelations(
            scale, mean, precision, background, contrast, directions,
            spread.clamp_min(1e-8).sqrt(), _unit_by_layer(core, channels), odds,
        )  # fmt: skip
    return encoded
