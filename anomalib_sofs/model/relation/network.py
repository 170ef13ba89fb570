"""The only trained part: relation maps in, defect logits out. It sees no features, so it suits other objects, too."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs.model.modes import recording

from .fine_maps import FINE_RELATIONS
from .maps import RELATIONS

VERSION = 4
"""Of the relation maps and of what is made of them: weights know it, and weights of another version are refused."""
USUAL_ODDS = -4.6
"""Log odds of 1 %, where the base rate adds nothing to the logit."""
LEAST_AREA = 0.5
"""Cells of defect from which a crop counts as defective."""
WIDTHS = (16, 24, 32, 40)
"""Channels per level of the U-Net; each level halves the grid."""
LAST_WIDTH = 24
"""Channels of the refinement by the fine maps, four fine cells in one."""


class _Block(nn.Module):
    """Residual block: depthwise 5x5, then two pointwise convolutions; starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dw = nn.Conv2d(channels, channels, 5, padding=2, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.a = nn.Conv2d(channels, 2 * channels, 1)
        self.b = nn.Conv2d(2 * channels, channels, 1)
        for parameter in self.b.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Add the block's correction to ``(B, channels, h, w)``."""
        return x + self.b(F.relu(self.a(self.bn(self.dw(x)))))


class Inputs(NamedTuple):
    """What networks see: each map as it is, and standardised."""

    maps: Tensor  # (B, 2 * len(RELATIONS), h, w)
    fine: Tensor  # (B, 2 * len(FINE_RELATIONS), 2h, 2w)
    odds: Tensor  # (B,) of the support


def inputs(maps: Tensor, fine: Tensor) -> Inputs:
    """Prepare relations for networks, once for all of them.

    Args:
        maps: ``(B, MAPS, h, w)``, see :func:`~anomalib_sofs.model.relation.maps.relate`.
        fine: ``(B, 7, 2h, 2w)``, see :func:`~anomalib_sofs.model.relation.fine_maps.relate_fine`.
    """
    if not recording():  # engines choose an order of their own
        maps, fine = (x.contiguous(memory_format=torch.channels_last) for x in (maps, fine))
    maps, odds = maps[:, :-1], maps[:, -1, 0, 0]
    twice, fine_twice = (torch.cat([x, standardised(x)], dim=1) for x in (maps, fine))
    return Inputs(twice, fine_twice, odds)


class UNet(nn.Module):
    """Residual U-Net over the relation maps, whose coarsest level votes on the whole image.

    Args:
        widths: Channels per level; each level halves the grid.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.stem = nn.Sequential(nn.Conv2d(2 * len(RELATIONS), widths[0], 1), nn.BatchNorm2d(widths[0]), nn.ReLU())
        self.enc = nn.ModuleList(nn.Sequential(_Block(w)) for w in widths)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in pairs)
        self.ctx = nn.Sequential(nn.Linear(2 * widths[-1], 64), nn.ReLU(), nn.Linear(64, widths[-1] + 1))
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairs)
        self.dec = nn.ModuleList(_Block(w) for w in widths[:-1])

    def levels(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return channels ``(B, widths[0], h, w)`` of maps, see :class:`Inputs`, and the vote ``(B,)``."""
        x = self.stem(maps)
        skips: list[Tensor] = []
        for level, encode in enumerate(self.enc):
            if level:
                x = self.down[level - 1](F.avg_pool2d(x, 2))
            x = encode(x)
            skips.append(x)
        context = self.ctx(torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1))
        x, vote = x + context[:, :-1, None, None], context[:, -1]
        for level in reversed(range(len(self.up))):
            x = F.interpolate(self.up[level](x), scale_factor=2.0, mode="bilinear", align_corners=False)
            x = self.dec[level](skips[level] + x)
        return x, vote


def with_base_rate(logits: Tensor, vote: Tensor, odds: Tensor) -> Tensor:
    """Add to logits ``(B, 1, H, W)`` the vote ``(B,)``, and what to expect of a query by the support's odds ``(B,)``.

    Bayes' rule for another base rate.
    """
    return logits + (vote + odds - USUAL_ODDS)[:, None, None, None]


class RelationNet(UNet):
    """Small U-Net over the relation maps, refined by those of a grid twice as fine, with a vote on the whole image."""

    def __init__(self) -> None:
        super().__init__(WIDTHS)
        self.register_buffer("version", torch.tensor(VERSION))
        # four cells of the fine grid are the channels of one: as exact, at a quarter of the memory that is moved
        self.out = nn.Conv2d(WIDTHS[0], LAST_WIDTH, 1)
        self.fine = nn.Conv2d(2 * len(FINE_RELATIONS), LAST_WIDTH, 2, stride=2, bias=False)
        self.last = nn.Sequential(nn.ReLU(), nn.Conv2d(LAST_WIDTH, LAST_WIDTH, 3, padding=1), nn.ReLU())
        self.cells = nn.ConvTranspose2d(LAST_WIDTH, 1, 2, stride=2)
        nn.init.constant_(self.cells.get_parameter("bias"), -2.0)  # most pixels are good

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        found = state_dict.get(f"{prefix}version")
        if found is not None and int(found) != VERSION:  # of a checkpoint; what else differs follows from it
            msg = (
                f"This checkpoint holds version {int(found)} of the default head, the package has version {VERSION}: "
                "train anew, or go on without the checkpoint, with the weights that come with the package."
            )
            raise ValueError(msg)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, maps: Tensor, fine: Tensor, odds: Tensor) -> tuple[Tensor, Tensor]:
        """Turn relations into logits.

        Args:
            maps: See :class:`Inputs`; h and w multiples of 8.
            fine: Likewise.
            odds: Likewise.

        Returns:
            Logits ``(B, 1, 2h, 2w)``, and the vote ``(B,)`` on whether there is any defect, which is part of them:
            it silences good parts as a whole.
        """
        x, vote = self.levels(maps)
        x = self.cells(self.last(self.out(x) + self.fine(fine)))
        return with_base_rate(x, vote, odds).float(), vote.float()


def standardised(maps: Tensor) -> Tensor:
    """Standardise each map ``(B, C, h, w)`` over its image: a weak contrast stands out from a quiet background."""
    # a constant map must become 0 exactly, however an engine adds up: what is left of it would be divided by next to 0
    shifted = maps - maps[:, :, :1, :1]
    centred = shifted - shifted.mean((2, 3), keepdim=True)
    deviation = centred.square().mean((2, 3), keepdim=True).sqrt()
    return (centred / (2 * deviation + 0.04)).clamp(-2, 4)


def relation_loss(logits: Tensor, vote: Tensor, target: Tensor) -> Tensor:
    """Cross entropy + Dice + pooled IoU, with a gradient on good parts too.

    Args:
        logits: ``(B, 1, H, W)``.
        vote: ``(B,)``.
        target: ``(B, 1, H, W)`` in 0..1.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((1, 2, 3))
    p, area = logits.sigmoid(), target.sum((1, 2, 3))
    both, either = (p * target).sum((1, 2, 3)), (p + target - p * target).sum((1, 2, 3))
    dice = 1 - (2 * both + 1) / (p.sum((1, 2, 3)) + area + 1)
    present = (area > LEAST_AREA).float()
    # On a good part only the few highest logits matter: any region found is a false alarm.
    highest = F.softplus(logits.flatten(1).topk(max(4, logits[0].numel() // 1000), 1)[0]).mean(1)
    single = 2 * entropy + 1.5 * dice * present + 0.3 * highest * (1 - present)
    pooled = 1 - both.sum() / (either.sum() + 1)  # large defects count for more, as in the IoU of a class
    return single.mean() + pooled + 0.2 * F.binary_cross_entropy_with_logits(vote, present)
