"""The default head: relation maps in closed form, judged by a small network that never sees a feature."""

from collections.abc import Iterable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs.arrays import full_precision
from anomalib_sofs.model.backbone import Backbone
from anomalib_sofs.model.downsampling import downsample_mask
from anomalib_sofs.model.encoding import Encoding, SupportEncoding
from anomalib_sofs.model.episodes import Episodes, Features, episode_features
from anomalib_sofs.model.modes import evaluating
from anomalib_sofs.model.support_crops import SupportCrops
from anomalib_sofs.windows import Windows, apply_in_groups

from .description import FINE_PREFIX, describe, describe_episodes
from .discriminant import mean_of
from .exposure import equalise_exposure
from .fine_maps import relate_fine
from .fine_statistics import FineRelations
from .grids import Grids
from .maps import relate
from .marks import Look, encode_marks, stacked
from .network import RelationNet, inputs, relation_loss
from .rejections import KEY
from .self_support import self_supported
from .statistics import SupportRelations
from .suppression import suppressed
from .whole_image import PARTS, judged, weighed

BACKGROUND_WINDOWS = 16
"""Of a marked image that is larger than a window; encoding takes half a second for each on one thread."""


class RelationHead(nn.Module):
    """Discriminant maps on grids of 4 and 2 native pixels, a small U-Net over them, logits on the grid of 2.

    Args:
        grids: How it reads a backbone, see :func:`.grids.grids_of`.
        window_size: Largest side of a window in pixels, a multiple of 32.
        members: Networks whose logits are averaged; one comes with the package.
        background_windows: Most windows of the rest of a marked image that show the background, beside those over its
            marks.
        evidence: Whether an image is good unless about as many of its pixels as a marked region has are defect, see
            :mod:`.evidence`. Without, a few more small defects are found, and many more good parts get a region.

    Raises:
        ValueError: If there is no member, or a number is negative.
    """

    multiple = 32
    turns = (0, 1)
    """Quarter turns of the support: what is marked across may run up and down. Mirror images add nothing (measured)."""
    weighs_rejected = True
    resizes_large = False
    resizes_all = False
    norms_frozen: Tensor

    def __init__(
        self,
        grids: Grids,
        *,
        window_size: int = 512,
        members: int = 1,
        background_windows: int = BACKGROUND_WINDOWS,
        evidence: bool = True,
    ) -> None:
        super().__init__()
        self.windows = Windows(window_size, self.multiple)
        self.evidence = evidence
        self.background_windows = background_windows
        self.grids = grids
        self.channels = grids.channels
        if members < 1:
            msg = f"head_options.members is {members}: at least one network decides; one comes with the package."
            raise ValueError(msg)
        if background_windows < 0:
            msg = f"head_options.background_windows is {background_windows}: 0 sees the windows over the marks only."
            raise ValueError(msg)
        self.nets = nn.ModuleList(RelationNet() for _ in range(members))
        # saved with the weights: batch statistics of a trained head must not drift after a checkpoint was loaded
        self.register_buffer("norms_frozen", torch.tensor(data=False))

    def train(self, mode: bool = True) -> "RelationHead":  # noqa: FBT001, FBT002 - torch's own signature
        """Keep a trained head's batch statistics: a batch holds a few episodes only."""
        super().train(mode)
        if bool(self.norms_frozen):
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def features(self, backbone: Backbone, windows: Tensor) -> Features:
        """Extract the layers of windows ``(n, 3, h, w)`` on a coarse and on a fine grid."""
        return self.grids(backbone, equalise_exposure(windows))

    # -- support -------------------------------------------------------------------------------------------------------

    def encode(self, backbone: Backbone, crops: SupportCrops) -> dict[str, Encoding]:
        """Reduce every class to its directions and statistics, then calibrate it on its own marked crops."""
        # one crop must not change the statistics of batches
        with evaluating(self):
            return encode_marks(crops, partial(self.features, backbone), self.first_logits, self.look, self.channels)

    def statistics(
        self, features: Iterable[Features], masks: Sequence[Tensor], labels: Sequence[str]
    ) -> dict[str, Encoding]:
        """Describe each class by closed forms, see :func:`.description.describe`."""
        return describe(features, masks, labels, self.channels)

    # -- query ---------------------------------------------------------------------------------------------------------

    def logits(
        self, backbone: Backbone, image: Tensor, support: SupportEncoding, inside: Tensor | None = None
    ) -> Tensor:
        """Segment normalised images ``(B, 3, H, W)`` of any size: logits ``(B, K, H, W)``.

        Pixels that are not ``inside (B or 1, 1, H, W)`` are no evidence.
        """
        classes = stacked(support.encodings)

        def segment(windows: Tensor) -> Tensor:
            features = self.features(backbone, windows)
            return weighed(self._small_look(self.first_logits(features, classes), features[0], classes), classes)

        found = apply_in_groups(image, segment, self.windows, PARTS)
        return judged(found, classes, evidence=self.evidence, inside=inside)

    def look(self, features: Features, classes: Encoding) -> Look:
        """Judge the features of n windows for K classes, whose encodings are stacked, twice; see :mod:`.self_support`.

        What is costly runs once for all classes.
        """
        return self.look_again(self.first_logits(features, classes), features[0], classes)

    def look_again(self, first: Tensor, grid: Tensor, classes: Encoding) -> Look:
        """Take the second look at the coarse grids ``(n, C, h, w)`` of n windows, whose first logits are known."""
        small = self._small_look(first, grid, classes)
        return small._replace(maps=F.interpolate(small.maps, scale_factor=2.0, mode="bilinear", align_corners=False))

    @staticmethod
    def _small_look(first: Tensor, grid: Tensor, classes: Encoding) -> Look:
        """Do the same, but leave maps on the fine grid ``(n, 2 * K, 2h, 2w)``."""
        with full_precision(first):
            second, distance = self_supported(first, grid)
            both = torch.cat([second, first], 1)
            if KEY in classes:
                both = suppressed(both, grid, classes)
            return Look(both, distance)

    def first_logits(self, features: Features, classes: Encoding) -> Tensor:
        """Judge the features of n windows for K classes by the networks alone, logits ``(n, K, 2h, 2w)``."""
        with full_precision(features[0]):
            outputs = self.decide(*self.relate(features, classes))[:, 0]
        return outputs.view(features[0].shape[0], -1, outputs.shape[-2], outputs.shape[-1])

    def relate(self, features: Features, classes: Encoding) -> tuple[Tensor, Tensor]:
        """Relate n windows to K classes: maps ``(n * K, MAPS, h, w)``, and fine ones ``(n * K, 7, 2h, 2w)``."""
        grid, fine = features
        coarse = SupportRelations(*(classes[name] for name in SupportRelations._fields))
        finer = FineRelations(*(classes[FINE_PREFIX + name] for name in FineRelations._fields))
        return relate(grid, coarse, self.channels.coarse), relate_fine(fine, finer)

    def decide(self, maps: Tensor, fine: Tensor) -> Tensor:
        """Judge relation maps ``(B, MAPS, h, w)`` and fine ones ``(B, 7, 2h, 2w)``.

        Returns:
            The logit, which includes the vote on the whole window, and that vote, ``(B, 2, 2h, 2w)``.
        """
        like = next(self.parameters())
        seen = inputs(maps.to(like), fine.to(like))
        logits, vote = map(mean_of, zip(*(net(*seen) for net in self.nets), strict=True))
        return torch.cat([logits, vote[:, None, None, None].expand_as(logits)], dim=1)

    # -- training ------------------------------------------------------------------------------------------------------

    def loss(self, backbone: Backbone, episodes: Episodes) -> Tensor:
        """Relate every query to its support crops, each of which is reduced once, and judge all of them together."""
        queries, crops = episode_features(episodes, partial(self.features, backbone))
        described = describe_episodes(crops, list(episodes.crop_masks.float()), episodes.members, self.channels)
        related = []
        for query, encoding in zip(queries, described, strict=True):
            with full_precision(query[0]):
                related.append(self.relate(query, stacked([encoding])))
        outputs = self.decide(*(torch.cat(parts) for parts in zip(*related, strict=True)))
        target = downsample_mask(episodes.masks.float(), (outputs.shape[-2], outputs.shape[-1]))[:, None]
        return relation_loss(outputs[:, :1].float(), outputs[:, 1, 0, 0].float(), target)
