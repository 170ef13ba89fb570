"""Prototype intensity downsampling: a mask becomes shares of the patch grid's cells."""

from typing import Literal

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

MaskDownsampling = Literal["area", "bilinear"]


def downsample_mask(mask: Tensor, grid: tuple[int, int], mode: MaskDownsampling = "area") -> Tensor:
    """Reduce masks to the patch grid (Zhang et al. 2024, prototype intensity downsampling; step 1).

    A cell holds the share of its pixels that is defect, so a defect smaller than a cell keeps its weight.
    ``"bilinear"`` is the paper's ablation: it samples between cell centres and loses such defects.

    Args:
        mask: Masks ``(N, H, W)`` with values in [0, 1]; ``H`` and ``W`` are multiples of the grid for ``"area"``.
        grid: Cells ``(h, w)`` of the patch grid.
        mode: ``"area"`` (the method) or ``"bilinear"`` (the ablation).

    Returns:
        Shares ``(N, h, w)`` in [0, 1].
    """
    mask = mask.float().unsqueeze(1)
    if mode == "area":
        return F.adaptive_avg_pool2d(mask, grid).squeeze(1)
    return F.interpolate(mask, size=grid, mode="bilinear", align_corners=False).squeeze(1)
