"""What the head reads of a backbone: layers on a grid of 4 and on one of 2 native pixels.

A CNN has layers of several strides. A vision transformer has one: its blocks stand in for them, and its cells are
interpolated to both grids, so that it tells finer than a cell nothing but where neighbours differ.
"""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs.model.backbone import Backbone, is_transformer

from .description import CELL, Channels, Features
from .fine_maps import fine_grid
from .maps import patch_grid

STRIDES = [2, 4, 8, 16, 32]
"""Of the layers of a CNN; the anomaly detector reads the last one."""
ENLARGE = 2  # most defects are smaller than a cell of the backbone at native scale
LAYERS = slice(0, 4)  # strides 2, 4, 8 and 16, of the enlarged image
FINE, COARSE = slice(0, 2), slice(1, 4)  # of those, the layers on the grid of 2 and on that of 4 pixels

BLOCKS = 6
"""Of a transformer, those of the paper."""
EARLY, LATE = slice(0, 2), slice(1, None, 2)
"""Of those, the ones on the fine and on the coarse grid."""
PATCH = 8
"""Native pixels across a patch, as across a cell of a CNN at its coarsest layer: stride 16 of the enlarged image."""


class Grids(Protocol):
    """Extracts features of windows."""

    channels: Channels
    """Of the layers in both grids."""

    def __call__(self, backbone: Backbone, windows: Tensor) -> Features:
        """Return the coarse grid ``(n, C, h/4, w/4)`` and the fine one ``(n, F, h/2, w/2)`` of ``(n, 3, h, w)``."""


class StrideGrids:
    """Reads the strides 2 to 16 of a CNN, from windows enlarged twice.

    Args:
        channels: Channels of its five layers.
    """

    def __init__(self, channels: list[int]) -> None:
        self.channels = Channels(channels[COARSE], channels[FINE])

    def __call__(self, backbone: Backbone, windows: Tensor) -> Features:
        """See :class:`Grids`."""
        layers = backbone(windows, LAYERS, ENLARGE)
        return [patch_grid(layers[COARSE]), fine_grid(layers[FINE])]


class BlockGrids:
    """Reads blocks of a vision transformer, from windows resized so that a patch is 8 native pixels.

    Any window whose sides are multiples of 8 is then a whole number of patches, whatever their size.

    Args:
        channels: Channels of its six layers.
        patch: Pixels across a patch.
    """

    def __init__(self, channels: list[int], patch: int) -> None:
        self.channels = Channels(channels[LATE], channels[EARLY])
        self.patch = patch

    def __call__(self, backbone: Backbone, windows: Tensor) -> Features:
        """See :class:`Grids`."""
        resized = F.interpolate(windows, scale_factor=self.patch / PATCH, mode="bilinear", align_corners=False)
        layers = backbone(resized)
        return [_joined(layers[LATE], PATCH // CELL), _joined(layers[EARLY], 2 * PATCH // CELL)]


def _joined(layers: list[Tensor], times: int) -> Tensor:
    cells = torch.cat(layers, dim=1)
    return F.interpolate(cells, scale_factor=float(times), mode="bilinear", align_corners=False)


def grids_of(backbone: Backbone) -> Grids:
    """Choose how the layers of a backbone are read.

    Raises:
        ValueError: If they cannot be.
    """
    if is_transformer(backbone.name):
        if len(backbone.layers) == BLOCKS:
            return BlockGrids(backbone.channels, backbone.stride)
        needed = f"{BLOCKS} blocks of a transformer"
    else:
        if backbone.strides == STRIDES:
            return StrideGrids(backbone.channels)
        needed = f"strides {STRIDES}"
    msg = (
        f"head='relation' reads {needed}, but layers {backbone.layers} of {backbone.name!r} have strides "
        f"{backbone.strides}. Leave layers=None, choose another backbone, or use head='paper'."
    )
    raise ValueError(msg)
