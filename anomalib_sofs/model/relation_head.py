"""The default head: relation maps in closed form, judged by a small network that never sees a feature."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from .backbone import Backbone
from .downsampling import downsample_mask
from .encoding import Encoding
from .normality import NormalSpace, anomaly_maps, encode_normal, image_score
from .relation_net import RelationNet, relation_loss
from .relation_support import encode_support
from .relations import SupportRelations, patch_grid, relate

CELL = 4  # native pixels across a cell of the grid; 8 of the enlarged image
ENLARGE = 2.0  # most defects are smaller than a cell of the backbone at native scale
SEGMENTATION = slice(0, 3)  # strides 4, 8 and 16, of the enlarged image
NORMALITY = slice(1, 4)  # strides 8, 16 and 32, of the image itself


class RelationHead(nn.Module):
    """Discriminant maps on a grid of 4 native pixels, a small U-Net over them, logits on a grid of 2.

    Needs a CNN with feature layers at strides 4, 8, 16 and 32.

    Args:
        channels: Channels of the four layers.
        prior: See :class:`RelationNet`; 0 where a network is trained from scratch, or it learns to cancel the prior.
    """

    fixed_window = False
    multiple = 32
    normal_multiple = 16  # less continuation by reflection: it is never quite normal

    def __init__(self, channels: list[int], prior: float = 12.0) -> None:
        super().__init__()
        self.channels = channels[SEGMENTATION]
        self.net = RelationNet(prior=prior)
        self.norms_frozen = False

    def train(self, mode: bool = True) -> "RelationHead":  # noqa: FBT001, FBT002 - torch's own signature
        """Keep a trained head's batch statistics: a batch holds a few episodes only."""
        super().train(mode)
        if self.norms_frozen:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    @staticmethod
    def extract(backbone: Backbone, windows: Tensor, *, normal: bool) -> list[Tensor]:
        """Extract the layers at native scale (FAD), or of the enlarged window on one grid (FSS)."""
        if normal:
            return backbone(windows, NORMALITY)
        enlarged = F.interpolate(windows, scale_factor=ENLARGE, mode="bilinear", align_corners=False)
        return [patch_grid(backbone(enlarged, SEGMENTATION))]

    def encode_crops(
        self,
        crops: Iterable[list[Tensor]],
        masks: list[Tensor],
        labels: Sequence[str],
    ) -> dict[str, Encoding]:
        """Encode support crops of any sizes, every class; crops without defect add to the background only."""
        grids = (grid[0] for (grid,) in crops)
        shares = [downsample_mask(m[None], (m.shape[-2] // CELL, m.shape[-1] // CELL))[0] for m in masks]
        encoded = encode_support(grids, shares, labels, self.channels)
        return {name: relations._asdict() for name, relations in encoded.items()}

    @staticmethod
    def encode_normal(crops: Iterable[list[Tensor]]) -> Encoding:
        """Encode normal support crops: one space per layer."""
        encoding: Encoding = {}
        for i, layer in enumerate(zip(*crops, strict=True)):
            space = encode_normal([features[0] for features in layer])
            encoding |= {f"{name}_{i}": value for name, value in space._asdict().items()}
        return encoding

    @staticmethod
    def anomaly(features: list[Tensor], encoding: Encoding) -> Tensor:
        """Map features to distances from normality and the coarse map behind the image score, ``(B, 2, h, w)``."""
        spaces = [NormalSpace(*(encoding[f"{name}_{i}"] for name in NormalSpace._fields)) for i in range(len(features))]
        return anomaly_maps(features, spaces)

    @staticmethod
    def score(maps: Tensor) -> Tensor:
        """Image score of merged anomaly maps ``(B, 2, H, W)``."""
        return image_score(maps[:, 1])

    def compare(self, features: list[Tensor], encodings: Sequence[Encoding]) -> list[Tensor]:
        """Relate B queries to K classes of one support set: maps ``(B * K, MAPS, h, w)``."""
        return [relate(features[0], [SupportRelations(**encoding) for encoding in encodings], self.channels)]

    def decide(self, maps: Tensor) -> Tensor:
        """Judge relation maps ``(B, MAPS, h, w)``.

        Returns:
            The logit, which includes the vote on the whole window, and that vote, ``(B, 2, 2h, 2w)``.
        """
        logits, vote = self.net(maps)
        return torch.cat([logits, vote[:, None, None, None].expand_as(logits)], dim=1)

    @staticmethod
    def loss(outputs: Tensor, masks: Tensor) -> Tensor:
        """Compare the outputs of :meth:`decide` with masks ``(B, H, W)``."""
        target = downsample_mask(masks, (outputs.shape[-2], outputs.shape[-1]))[:, None]
        return relation_loss(outputs[:, :1], outputs[:, 1, 0, 0], target)
