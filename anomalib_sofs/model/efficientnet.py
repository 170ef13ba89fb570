"""An EfficientNet's feature maps, block by block: no further than wanted, and where maps are large strip by strip.

Within a block maps have six times as many channels as between blocks, and those of the first blocks do not fit into a
processor's cache. In strips of a few rows they do. The result is the same: a strip overlaps its neighbours as far as
the kernels of its block reach.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from timm.models.efficientnet import EfficientNetFeatures
from torch import Tensor, nn

from .enlargement import TWICE, enlarged, enlarged_stem
from .modes import recording

STRIP_VALUES = 2**20
"""Numbers in the widest map of a strip: 4 MiB."""
LARGE_VALUES = 5 * 2**20
"""Numbers in the widest map above which a block runs in strips."""
LEAST_ROWS = 16
"""Rows of a strip of its own, at least: its neighbours' rows beside it are computed twice."""


class _Kernel(NamedTuple):
    """What matters of a convolution."""

    side: int
    step: int
    channels: int


class _Block(NamedTuple):
    """Layers that run one after the other, strip by strip where they may."""

    stage: int
    layers: list[Callable[[Tensor], Tensor]]
    kernels: list[_Kernel]

    def __call__(self, x: Tensor) -> Tensor:
        """Run them on ``(B, C, H, W)``."""
        for layer in self.layers:
            x = layer(x)
        return x


def stage_maps(net: EfficientNetFeatures, image: Tensor, stages: Sequence[int], times: int = 1) -> list[Tensor]:
    """Return the maps after some stages, counted from 1; 0 is the stem.

    Args:
        net: timm's feature extractor.
        image: ``(B, 3, H, W)``.
        stages: Which ones, ascending.
        times: How many times larger the image is to be seen.
    """
    whole = recording() or image.device.type != "cpu" or not _is_local(net)
    conv = net.conv_stem
    stem: Callable[[Tensor], Tensor] = conv
    step = conv.stride[0]
    # padding in itself is timm's sign of PyTorch's own, on both sides
    if times == TWICE and conv.kernel_size == (3, 3) and conv.stride == (2, 2) and conv.padding == (0, 0):
        stem, step = partial(enlarged_stem, conv), 1
    elif times > 1:
        image = enlarged(image, times)
    blocks = [_Block(0, [stem, net.bn1], [_Kernel(conv.kernel_size[0], step, conv.out_channels)])]
    stage: Any
    for number, stage in enumerate(net.blocks[: stages[-1]], 1):
        blocks += [_Block(number, [block], list(_kernels(block))) for block in stage]
    if 0 not in stages:  # the map between is the largest of all
        stem_block, following = blocks[:2]
        joined = stem_block.layers + following.layers, stem_block.kernels + following.kernels
        blocks[:2] = [_Block(following.stage, *joined)]
    maps, x = {}, image
    for block in blocks:
        x = block(x) if whole else _in_strips(block, x)
        if block.stage in stages:
            maps[block.stage] = x
    return list(maps.values())


def _in_strips(block: _Block, x: Tensor) -> Tensor:
    """Run a block on strips of rows where its maps are large."""
    height = x.shape[-2]
    step, reach, values = 1, 0, 0
    for kernel in block.kernels:
        reach += (kernel.side - 1) * step
        step *= kernel.step
        values = max(values, kernel.channels * x[:, 0].numel() // step**2)
    if values <= LARGE_VALUES or height % step:
        return block(x)
    reach = -(-reach // step) * step
    rows = max(STRIP_VALUES * height // values, LEAST_ROWS) // step * step
    found = x[:0]
    for top in range(0, height, rows):
        start = max(top - reach, 0)
        strip = block(x[:, :, start : top + rows + reach])[:, :, (top - start) // step :][:, :, : rows // step]
        if not top:
            shape = (*strip.shape[:2], height // step, strip.shape[3])
            found = torch.empty(shape, dtype=strip.dtype, memory_format=torch.channels_last)
        found[:, :, top // step : (top + rows) // step] = strip
    return found


def _kernels(block: nn.Module) -> Iterator[_Kernel]:
    for part in block.modules():
        if isinstance(part, nn.Conv2d):
            yield _Kernel(part.kernel_size[0], part.stride[0], part.out_channels)


def _is_local(net: EfficientNetFeatures) -> bool:
    """Tell whether no block looks at its input as a whole, as squeeze and excitation does."""
    blocks = (block for stage in net.blocks for block in stage.children())
    return all(isinstance(getattr(block, "se", None), nn.Identity) for block in blocks)
