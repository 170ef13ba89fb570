"""Rejected regions: what looks more like one of them than like the marked defect is no defect.

As background pixels they would weigh nothing: fifty among sixty thousand. So some of their cells are kept as exemplars,
and every cell of a query is compared with the nearest of them and with the nearest of the defect.

False alarms that look like none of them remain. How sure the head was of the rejected ones, before it knew better, is
how sure it is of further ones: an image has to show something that it is surer of than of a quarter of them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs.model.downsampling import downsample_mask
from anomalib_sofs.model.encoding import Encoding
from anomalib_sofs.model.false_alarms import conformal_quantile

from .discriminant import clear_background

KEY = "rejected"
"""Name in an encoding of the exemplars ``(e, C)``, layers of unit length; the classes of a support set share them."""
LEVEL = "rejected_level"
"""Name in an encoding of the logit ``()`` that something on an image has to exceed."""
EXCEEDING = 0.75
"""Share of further false alarms that exceed it; passing over more of them costs real defects, see the experiments."""
CELLS = 32
"""Exemplars of each image with rejected regions."""
LAYER_WEIGHTS = (0.0, 0.3, 0.7)
"""Of the cosines at strides 4, 8 and 16 of the enlarged image: what a region is shows on coarse cells."""
GAIN = 40.0
"""Logits per difference of the cosines."""
MARGIN = 0.1
"""By which the cosine to a rejected region has to be larger."""
MOST = 16.0
"""Logits that are taken off at most."""


def rejected_cells(grid: Tensor, mask: Tensor, scale: Tensor, channels: Sequence[int]) -> Tensor:
    """Choose exemplars of a rejected region.

    Args:
        grid: Features ``(C, h, w)`` of a crop that shows it.
        mask: The share of each pixel that was rejected ``(H, W)``.
        scale: One over the standard deviation of the background ``(C,)``.
        channels: Channels of the layers in the grid.

    Returns:
        ``(e, C)``, each layer of unit length.
    """
    shares = downsample_mask(mask[None].to(grid), (grid.shape[-2], grid.shape[-1]))[0]
    cells = grid.flatten(1).T
    mean = cells[clear_background(shares).flatten()].mean(0)
    share = shares.flatten()
    core = (cells[share >= min(0.5, 0.7 * float(share.max()))] - mean) * scale
    steps = torch.linspace(0, len(core) - 1, min(CELLS, len(core)), device=core.device).round().long()
    return torch.cat([F.normalize(layer, dim=1) for layer in core[steps].split(list(channels), 1)], 1)


def rejection(grid: Tensor, encodings: Sequence[Encoding], channels: Sequence[int]) -> Tensor:
    """Return what is added to the logits of queries where they resemble rejected regions.

    Args:
        grid: ``(B, C, h, w)``.
        encodings: Of K classes that share rejected exemplars.
        channels: Channels of the layers in the grid.

    Returns:
        ``(B, K, h, w)``, 0 or less.
    """
    shared = encodings[0]
    cells = (grid - grid.mean((2, 3), keepdim=True)).flatten(2) * shared["scale"][:, None]
    exemplars = torch.cat([shared[KEY], *(encoding["defect"] for encoding in encodings)])
    count, total = len(shared[KEY]), cells.new_zeros(())
    for weight, layer, rows in zip(
        LAYER_WEIGHTS, cells.split(list(channels), 1), exemplars.split(list(channels), 1), strict=True
    ):
        cosines = rows @ F.normalize(layer, dim=1)
        defect = cosines[:, count:].unflatten(1, (len(encodings), -1)).amax(2)
        total = total + weight * (defect - cosines[:, :count].amax(1, keepdim=True))
    return (GAIN * (total + MARGIN)).clamp(-MOST, 0).view(len(grid), len(encodings), *grid.shape[-2:])


def rejected_level(peaks: Tensor) -> Tensor:
    """Return the logit that three quarters of the false alarms of each class exceed ``(K,)``, 0 at least.

    Args:
        peaks: Largest logit of each rejected region for each class ``(n, K)``, as the support set finds it without the
            rejections.
    """
    return conformal_quantile(peaks, EXCEEDING).clamp_min(0)


def suppress_unsure(logits: Tensor, levels: Tensor) -> Tensor:
    """Lower the logits of every image and class whose largest does not exceed a level by that level, to 0 and less.

    The order of images and pixels stays as it is.

    Args:
        logits: ``(B, K, H, W)``.
        levels: Of each class ``(K,)``, 0 or more.
    """
    unsure = logits.flatten(2).amax(2) <= levels
    return logits - torch.where(unsure, levels, 0.0)[..., None, None]
