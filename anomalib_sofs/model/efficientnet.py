"""An EfficientNet's feature maps, stage by stage: no further than wanted, and the first stages strip by strip.

The maps of the first stages are as wide as the image and do not fit into a processor's cache when it is large; in
strips of a few rows they do. The result is the same: a strip overlaps its neighbours as far as the kernels reach.
"""

from collections.abc import Iterator, Sequence

import torch
from timm.models.efficientnet import EfficientNetFeatures
from torch import Tensor, nn

FINE_STAGES = 2
"""Stages that run in strips, after the stem; their stride is 4 pixels."""
STRIDE = 2**FINE_STAGES
STRIP_PIXELS = 512 * 512
"""An image of up to this size is not cut."""


def stage_maps(net: EfficientNetFeatures, image: Tensor, stages: Sequence[int]) -> list[Tensor]:
    """Return the maps after some stages, counted from 1; 0 is the stem.

    Args:
        net: timm's feature extractor.
        image: ``(B, 3, H, W)``.
        stages: Which ones, ascending.
    """
    height, width = image.shape[-2:]
    fine = [number for number in stages if number < FINE_STAGES]
    # a graph with dynamic sides takes the image as a whole: nothing else differs
    if torch.compiler.is_compiling() or height * width <= STRIP_PIXELS or height % STRIDE or not _is_local(net):
        maps = _fine_maps(net, image, fine)
    else:
        rows = max(STRIP_PIXELS // width // STRIDE, 1) * STRIDE
        parts = [
            [_own(m, strip.shape[-2], start, own) for m in _fine_maps(net, strip, fine)]
            for strip, start, own in _strips(image, rows, _reach(net))
        ]
        maps = [torch.cat(strips, dim=-2) for strips in zip(*parts, strict=True)]
    *maps, x = maps
    for number in range(FINE_STAGES, stages[-1] + 1):
        x = x if number == FINE_STAGES else net.blocks[number - 1](x)
        if number in stages:
            maps.append(x)
    return maps


def _fine_maps(net: EfficientNetFeatures, image: Tensor, stages: Sequence[int]) -> list[Tensor]:
    """Run the stem and the first stages; returns the wanted maps before the last stage, then the map of that one."""
    x = net.bn1(net.conv_stem(image))
    maps = [x] if 0 in stages else []
    for number, block in enumerate(net.blocks[:FINE_STAGES], 1):
        x = block(x)
        if number in stages:
            maps.append(x)
    return [*maps, x]


def _strips(image: Tensor, rows: int, reach: int) -> Iterator[tuple[Tensor, int, int]]:
    """Yield strips of rows with ``reach`` more on either side, where the own rows start, and how many these are."""
    height = image.shape[-2]
    for top in range(0, height, rows):
        first, own = max(top - reach, 0), min(rows, height - top)
        yield image[..., first : top + own + reach, :], top - first, own


def _own(features: Tensor, height: int, start: int, own: int) -> Tensor:
    """Cut the rows of a feature map that belong to the ``own`` rows of its strip of ``height`` rows."""
    stride = height // features.shape[-2]
    return features[..., start // stride : (start + own) // stride, :]


def _convolutions(net: EfficientNetFeatures) -> Iterator[nn.Conv2d]:
    for module in (net.conv_stem, *net.blocks[:FINE_STAGES]):
        yield from (part for part in module.modules() if isinstance(part, nn.Conv2d))


def _reach(net: EfficientNetFeatures) -> int:
    """Return how many pixels away a cell of the last fine map looks at most, a multiple of the stride."""
    reach, jump = 0, 1
    for convolution in _convolutions(net):
        reach += (convolution.kernel_size[0] - 1) * jump
        jump *= convolution.stride[0]
    return -(-reach // STRIDE) * STRIDE


def _is_local(net: EfficientNetFeatures) -> bool:
    """Tell whether no fine stage looks at the image as a whole, as squeeze and excitation does."""
    blocks = (part for stage in net.blocks[:FINE_STAGES] for part in stage.children())
    return all(isinstance(getattr(block, "se", None), nn.Identity) for block in blocks)
