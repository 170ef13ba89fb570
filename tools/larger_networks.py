"""The two larger networks that the packaged one learned from, and how it learns from them.

They were trained on rendered parts by an earlier form of `train_head.py`, and were the packaged head themselves.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs.model.relation.discriminant import mean_of
from anomalib_sofs.model.relation.fine_maps import FINE_RELATIONS
from anomalib_sofs.model.relation.network import UNet, with_base_rate

FILE = Path(__file__).with_name("larger_networks.safetensors")
WIDTHS = (16, 24, 32)
PASSED, FINE_WIDTH = 8, 12
"""Channels that go on to the fine grid, and those of the refinement there."""
MOST_LOGIT = 12.0
"""Beyond it, how sure the larger networks are is not imitated."""
PEAK = 20
"""Surest pixels of a picture that are compared by themselves: what is decided of the whole picture hangs on them."""


class LargerNet(UNet):
    """U-Net over the relation maps, refined on the grid of the fine ones cell by cell, which takes most of its time."""

    def __init__(self) -> None:
        super().__init__(WIDTHS)
        self.out = nn.Conv2d(WIDTHS[0], PASSED, 1)
        self.fine = nn.Sequential(
            nn.Conv2d(PASSED + 2 * len(FINE_RELATIONS), FINE_WIDTH, 3, padding=1), nn.ReLU(),
            nn.Conv2d(FINE_WIDTH, FINE_WIDTH, 3, padding=1), nn.ReLU(),
            nn.Conv2d(FINE_WIDTH, 1, 1),
        )  # fmt: skip

    def forward(self, maps: Tensor, fine: Tensor, odds: Tensor) -> tuple[Tensor, Tensor]:
        """Turn relations, as ``inputs`` prepares them, into logits ``(B, 1, 2h, 2w)`` and the vote ``(B,)``."""
        x, vote = self.levels(maps)
        x = F.interpolate(self.out(x), scale_factor=2.0, mode="bilinear", align_corners=False)
        return with_base_rate(self.fine(torch.cat([x, fine], dim=1)), vote, odds), vote


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
