"""The two larger networks that the packaged one learned from, and how it learns from them.

They were trained on rendered parts by an earlier form of `train_head.py`, and were packaged themselves until 0.2.0.
"""

from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs.model.relation.discriminant import mean_of
from anomalib_sofs.model.relation.fine_maps import FINE_RELATIONS
from anomalib_sofs.model.relation.maps import RELATIONS
from anomalib_sofs.model.relation.network import USUAL_ODDS, Block

FILE = Path(__file__).with_name("larger_networks.safetensors")
WIDTHS = (16, 24, 32)
PASSED, FINE_WIDTH = 8, 12
"""Channels that go on to the fine grid, and those of the refinement there."""
MOST_LOGIT = 12.0
"""Beyond it, how sure the larger networks are is not imitated."""
PEAK = 20
"""Surest pixels of a picture that are compared by themselves: what is decided of the whole picture hangs on them."""


class LargerNet(nn.Module):
    """U-Net over the relation maps, refined on the grid of the fine ones cell by cell, which takes most of its time."""

    def __init__(self) -> None:
        super().__init__()
        pairs = list(pairwise(WIDTHS))
        self.stem = nn.Sequential(nn.Conv2d(2 * len(RELATIONS), WIDTHS[0], 1), nn.BatchNorm2d(WIDTHS[0]), nn.ReLU())
        self.enc = nn.ModuleList(nn.Sequential(Block(w)) for w in WIDTHS)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in pairs)
        self.ctx = nn.Sequential(nn.Linear(2 * WIDTHS[-1], 64), nn.ReLU(), nn.Linear(64, WIDTHS[-1] + 1))
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairs)
        self.dec = nn.ModuleList(Block(w) for w in WIDTHS[:-1])
        self.out = nn.Conv2d(WIDTHS[0], PASSED, 1)
        self.fine = nn.Sequential(
            nn.Conv2d(PASSED + 2 * len(FINE_RELATIONS), FINE_WIDTH, 3, padding=1), nn.ReLU(),
            nn.Conv2d(FINE_WIDTH, FINE_WIDTH, 3, padding=1), nn.ReLU(),
            nn.Conv2d(FINE_WIDTH, 1, 1),
        )  # fmt: skip

    def forward(self, maps: Tensor, fine: Tensor, odds: Tensor) -> tuple[Tensor, Tensor]:
        """Turn relations into logits ``(B, 1, 2h, 2w)`` and the vote ``(B,)``, see :class:`Inputs`."""
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
        x = F.interpolate(self.out(x), scale_factor=2.0, mode="bilinear", align_corners=False)
        x = self.fine(torch.cat([x, fine], dim=1))
        everywhere = vote + odds - USUAL_ODDS
        return x + everywhere[:, None, None, None], vote


class LargerNetworks(nn.Module):
    """Both, their logits and votes averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.nets = nn.ModuleList(LargerNet() for _ in range(2))
        state = load_file(FILE)
        self.load_state_dict({name: value for name, value in state.items() if not name.endswith(".version")})
        self.eval().requires_grad_(requires_grad=False)

    def forward(self, maps: Tensor, fine: Tensor, odds: Tensor) -> tuple[Tensor, Tensor]:
        """Turn relations into logits and votes."""
        logits, votes = zip(*(net(maps, fine, odds) for net in self.nets), strict=True)
        return mean_of(logits), mean_of(votes)


def imitation_loss(logits: Tensor, vote: Tensor, target: Tensor, target_vote: Tensor) -> Tensor:
    """Tell how far logits and vote of a network are from those that it imitates.

    Args:
        logits: ``(B, 1, H, W)``.
        vote: ``(B,)``.
        target: Logits that it imitates, ``(B, 1, H, W)``.
        target_vote: Their vote ``(B,)``.
    """
    p, wanted = logits.sigmoid(), target.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, wanted)
    both, sizes = (p * wanted).sum((1, 2, 3)), (p.square() + wanted.square()).sum((1, 2, 3))
    dice = (1 - (2 * both + 1) / (sizes + 1)).mean()
    surest = (x.flatten(1).topk(PEAK, 1)[0] for x in (logits, target))
    near = F.smooth_l1_loss(*(x.clamp(-MOST_LOGIT, MOST_LOGIT) for x in (logits, target)))
    return near + 4 * entropy + dice + 0.3 * F.smooth_l1_loss(*surest) + 0.2 * F.smooth_l1_loss(vote, target_vote)
