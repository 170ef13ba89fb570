"""The default head: relation maps in closed form, judged by small networks that never see a feature."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs.model.backbone import Backbone
from anomalib_sofs.model.downsampling import downsample_mask
from anomalib_sofs.model.encoding import Encoding
from anomalib_sofs.model.normality.gaussians import NormalSpace, anomaly_maps, encode_normal, image_score

from .calibration import marked_level, shift
from .discriminant import mean_of
from .evidence import MOST, confirmed, region_pixels
from .exposure import exposed
from .fine_maps import FineImage, FineRelations, encode_fine, fine_grid, reduce_fine, relate_fine
from .maps import SupportRelations, patch_grid, relate
from .network import RelationNet, relation_loss
from .self_support import refined
from .statistics import encode_support

MEMBERS = 2
"""Networks that come with the package; their logits are averaged."""
CELL = 4  # native pixels across a cell of the grid; 8 of the enlarged image
ENLARGE = 2.0  # most defects are smaller than a cell of the backbone at native scale
SEGMENTATION = slice(0, 4)  # strides 2, 4, 8 and 16, of the enlarged image
FINE, COARSE = slice(0, 2), slice(1, 4)  # of those, the layers on the grid of 2 and on that of 4 pixels
NORMALITY = slice(2, 5)  # strides 8, 16 and 32, of the image itself


FINE_PREFIX = "fine_"  # of the names in an encoding


def _shares(mask: Tensor, cell: int) -> Tensor:
    """Return the share of each cell that is defect ``(H / cell, W / cell)``."""
    return downsample_mask(mask[None], (mask.shape[-2] // cell, mask.shape[-1] // cell))[0]


class RelationHead(nn.Module):
    """Discriminant maps on grids of 4 and 2 native pixels, small U-Nets over them, logits on the grid of 2.

    Needs a CNN with feature layers at strides 2, 4, 8, 16 and 32.

    Args:
        channels: Channels of the five layers.
        members: Networks whose logits are averaged: one training differs from the next by 2 to 4 points of mIoU.
        evidence: Whether an image is good unless about as many of its pixels as a marked region has are defect, see
            :mod:`.evidence`. Without, a few more small defects are found, and many more good parts get a region.

    Raises:
        ValueError: If there is no member.
    """

    fixed_window = False
    support_views = True
    multiple = 32
    normal_multiple = 16  # less continuation by reflection: it is never quite normal

    def __init__(self, channels: list[int], *, members: int = MEMBERS, evidence: bool = True) -> None:
        super().__init__()
        self.evidence = evidence
        self.channels, self.fine_channels = channels[COARSE], channels[FINE]
        if members < 1:
            msg = f"head_options.members is {members}: at least one network decides; {MEMBERS} come with the package."
            raise ValueError(msg)
        self.nets = nn.ModuleList(RelationNet() for _ in range(members))
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
        """Extract the layers at native scale (FAD), or of the enlarged window on a coarse and a fine grid (FSS)."""
        if normal:
            return backbone(windows, NORMALITY)
        enlarged = F.interpolate(exposed(windows), scale_factor=ENLARGE, mode="bilinear", align_corners=False)
        layers = backbone(enlarged, SEGMENTATION)
        return [patch_grid(layers[COARSE]), fine_grid(layers[FINE])]

    def encode_crops(
        self,
        crops: Iterable[list[Tensor]],
        masks: list[Tensor],
        labels: Sequence[str],
    ) -> dict[str, Encoding]:
        """Encode support crops of any sizes, every class; crops without defect add to the background only."""
        fine_images: list[FineImage] = []

        def grids() -> Iterator[Tensor]:
            # one pass: the features of a crop are extracted when its turn comes, and not kept
            for (grid, fine), mask in zip(crops, masks, strict=True):
                fine_images.append(reduce_fine(fine[0], _shares(mask, CELL // 2)))
                yield grid[0]

        coarse = encode_support(grids(), [_shares(mask, CELL) for mask in masks], labels, self.channels)
        fine = encode_fine(fine_images, labels, self.fine_channels)
        return {
            name: relations._asdict() | {f"{FINE_PREFIX}{key}": value for key, value in fine[name]._asdict().items()}
            for name, relations in coarse.items()
        }

    def calibrated(
        self,
        encodings: dict[str, Encoding],
        crops: Iterable[list[Tensor]],
        masks: list[Tensor],
        labels: Sequence[str],
    ) -> dict[str, Encoding]:
        """Shift the odds of each class by what the head finds in its support, and count the pixels of its regions.

        See :mod:`.calibration` and :mod:`.evidence`.

        Args:
            encodings: What :meth:`encode_crops` made of these crops, and of normal ones.
            crops: The marked crops once more.
            masks: Their masks.
            labels: Their classes.
        """
        levels: dict[str, list[Tensor]] = {name: [] for name in encodings}
        pixels: dict[str, list[Tensor]] = {name: [] for name in encodings}
        distances: dict[str, list[Tensor]] = {name: [] for name in encodings}
        for features, mask, label in zip(crops, masks, labels, strict=True):
            if not mask.any():  # a thin defect of a large image may be lost in its resized copy
                continue
            logits = self.decide(*self.compare(features, [encodings[label]]))[:, :1]
            pixelwise = F.interpolate(logits, size=mask.shape[-2:], mode="bilinear", align_corners=False)
            level = marked_level(pixelwise[0, 0], mask)
            levels[label].append(level)
            pixels[label].append(region_pixels(mask))
            distances[label].append(refined(logits + shift([level]), features[0])[1][0, 0])
        return {
            name: encoding
            | {
                "odds": encoding["odds"] + shift(levels[name]),
                "marked": mean_of(pixels[name]),
                "distance": mean_of(distances[name]),
            }
            for name, encoding in encodings.items()
        }

    @staticmethod
    def refined(features: list[Tensor], logits: Tensor, encodings: Sequence[Encoding]) -> Tensor:
        """Look again at what was found, see :mod:`.self_support`.

        Args:
            features: Of the queries.
            logits: First opinion ``(B, K, h, w)``.
            encodings: Of the classes.

        Returns:
            Logits of the second look, and the evidence: those of the first, raised or lowered by how far what was
            found stands out, compared with what was marked. ``(B, 2 * K, h, w)``.
        """
        second, distance = refined(logits, features[0])
        # an encoding from before distances were taken has nothing to compare with
        usual = torch.stack([encoding.get("distance", distance.mean()) for encoding in encodings])
        return torch.cat([second, logits + (distance - usual)[..., None, None]], 1)

    def confirmed(self, logits: Tensor, encodings: Sequence[Encoding]) -> Tensor:
        """Silence images with too little evidence of a class, see :mod:`.evidence`.

        Args:
            logits: What :meth:`refined` returned, at the image's size ``(B, 2 * K, H, W)``.
            encodings: Of the classes.

        Returns:
            ``(B, K, H, W)``.
        """
        logits, evidence = logits.chunk(2, 1)
        if not self.evidence:
            return logits
        # an encoding from before evidence was weighed asks for the most
        marked = [encoding.get("marked", logits.new_tensor(MOST)) for encoding in encodings]
        return confirmed(logits, evidence, torch.stack(marked))

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
        """Relate B queries to K classes: maps ``(B * K, MAPS, h, w)``, and fine ones ``(B * K, 7, 2h, 2w)``."""
        grid, fine = features
        coarse = [SupportRelations(*(encoding[name] for name in SupportRelations._fields)) for encoding in encodings]
        finer = [
            FineRelations(*(encoding[FINE_PREFIX + name] for name in FineRelations._fields)) for encoding in encodings
        ]
        return [relate(grid, coarse, self.channels), relate_fine(fine, finer)]

    def decide(self, maps: Tensor, fine: Tensor) -> Tensor:
        """Judge relation maps ``(B, MAPS, h, w)`` and fine ones ``(B, 7, 2h, 2w)``.

        Returns:
            The logit, which includes the vote on the whole window, and that vote, ``(B, 2, 2h, 2w)``.
        """
        logits, vote = map(mean_of, zip(*(net(maps, fine) for net in self.nets), strict=True))
        return torch.cat([logits, vote[:, None, None, None].expand_as(logits)], dim=1)

    @staticmethod
    def loss(outputs: Tensor, masks: Tensor) -> Tensor:
        """Compare the outputs of :meth:`decide` with masks ``(B, H, W)``."""
        target = downsample_mask(masks, (outputs.shape[-2], outputs.shape[-1]))[:, None]
        return relation_loss(outputs[:, :1], outputs[:, 1, 0, 0], target)
