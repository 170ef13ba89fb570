"""The default head: relation maps in closed form, judged by small networks that never see a feature."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs.annotations.labels import DEFECT
from anomalib_sofs.model.backbone import Backbone
from anomalib_sofs.model.downsampling import downsample_mask
from anomalib_sofs.model.encoding import Encoding, SupportEncoding
from anomalib_sofs.model.episodes import Episodes, Features, episode_features
from anomalib_sofs.model.modes import evaluating
from anomalib_sofs.model.precision import full_precision
from anomalib_sofs.model.support_crops import SupportCrops
from anomalib_sofs.windows import Windows, apply_in_windows

from .calibration import marked_level, shift
from .discriminant import mean_of
from .evidence import NO_PIXEL, region_pixels, suppress_weak
from .exposure import equalise_exposure
from .extent import cut_at_half_peak
from .fine_maps import FineImage, FineRelations, encode_fine, fine_grid, reduce_fine, relate_fine
from .maps import SupportRelations, patch_grid, relate
from .network import RelationNet, relation_loss
from .rejections import KEY, LEVEL, rejected_cells, rejected_level, rejection, suppress_unsure
from .self_support import self_supported
from .statistics import encode_support

STRIDES = [2, 4, 8, 16, 32]
"""Of the backbone's layers that the head and its anomaly detector read."""
BACKGROUND_WINDOWS = 16
"""Of a marked image that is larger than a window; encoding takes half a second for each on one thread."""
MEMBERS = 2
"""Networks that come with the package; their logits are averaged."""
CELL = 4  # native pixels across a cell of the grid; 8 of the enlarged image
ENLARGE = 2.0  # most defects are smaller than a cell of the backbone at native scale
LAYERS = slice(0, 4)  # strides 2, 4, 8 and 16, of the enlarged image
FINE, COARSE = slice(0, 2), slice(1, 4)  # of those, the layers on the grid of 2 and on that of 4 pixels
FINE_PREFIX = "fine_"  # of the names in an encoding


class RelationHead(nn.Module):
    """Discriminant maps on grids of 4 and 2 native pixels, small U-Nets over them, logits on the grid of 2.

    Needs a CNN with feature layers at strides 2, 4, 8, 16 and 32.

    Args:
        channels: Channels of the five layers.
        window_size: Largest side of a window in pixels, a multiple of 32.
        members: Networks whose logits are averaged: one training differs from the next by 2 to 4 points of mIoU.
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
    norms_frozen: Tensor

    def __init__(
        self,
        channels: list[int],
        *,
        window_size: int = 512,
        members: int = MEMBERS,
        background_windows: int = BACKGROUND_WINDOWS,
        evidence: bool = True,
    ) -> None:
        super().__init__()
        self.windows = Windows(window_size, self.multiple)
        self.evidence = evidence
        self.background_windows = background_windows
        self.channels, self.fine_channels = channels[COARSE], channels[FINE]
        if members < 1:
            msg = f"head_options.members is {members}: at least one network decides; {MEMBERS} come with the package."
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

    @staticmethod
    def features(backbone: Backbone, windows: Tensor) -> Features:
        """Extract the layers of the enlarged windows ``(n, 3, h, w)`` on a coarse and on a fine grid."""
        exposed = equalise_exposure(windows)
        enlarged = F.interpolate(exposed, scale_factor=ENLARGE, mode="bilinear", align_corners=False)
        layers = backbone(enlarged, LAYERS)
        return [patch_grid(layers[COARSE]), fine_grid(layers[FINE])]

    # -- support -------------------------------------------------------------------------------------------------------

    def encode(self, backbone: Backbone, crops: SupportCrops) -> dict[str, Encoding]:
        """Reduce every class to its directions and statistics, then calibrate it on its own marked crops."""
        extract = partial(self.features, backbone)
        shown = crops.without_rejected
        encodings = self.statistics(shown.features(extract), shown.masks, shown.labels, shown.ignored)
        marked = shown.marked
        # one crop must not change the statistics of batches
        with evaluating(self):
            encodings = self.calibrated(encodings, marked.features(extract), marked.masks, marked.labels)
            if crops.support.shows_rejected:
                encodings = self.told_apart(encodings, extract, crops.with_rejected)
        return encodings

    def statistics(
        self,
        features: Iterable[Features],
        masks: Sequence[Tensor],
        labels: Sequence[str],
        ignored: Sequence[Tensor] | None = None,
    ) -> dict[str, Encoding]:
        """Describe each class by closed forms; crops without defect add to the background only.

        Args:
            features: Of the support crops, of any sizes.
            masks: Per crop the share of each pixel that is defect ``(h, w)``, 0..1.
            labels: Their classes.
            ignored: Per crop which pixels count for nothing ``(h, w)``; ``None`` if all do.
        """
        ignored = [torch.zeros_like(mask) for mask in masks] if ignored is None else ignored
        fine_images: list[FineImage] = []

        def grids() -> Iterator[Tensor]:
            # one pass: the features of a crop are extracted when its turn comes, and not kept
            for (grid, fine), mask, unclear in zip(features, masks, ignored, strict=True):
                shares, without = (_shares(plane, CELL // 2).to(fine) for plane in (mask, unclear))
                with full_precision(fine):
                    fine_images.append(reduce_fine(fine[0], shares, without))
                yield grid[0]

        with full_precision(self.norms_frozen):
            coarse = encode_support(
                grids(),
                [_shares(mask, CELL) for mask in masks],
                labels,
                self.channels,
                [_shares(plane, CELL) for plane in ignored],
            )
            fine = encode_fine(fine_images, labels, self.fine_channels)
        return {
            name: relations._asdict() | {f"{FINE_PREFIX}{key}": value for key, value in fine[name]._asdict().items()}
            for name, relations in coarse.items()
        }

    def told_apart(
        self, encodings: dict[str, Encoding], extract: Callable[[Tensor], Features], crops: SupportCrops
    ) -> dict[str, Encoding]:
        """Add what rejected regions look like, and how sure each class is of them, see :mod:`.rejections`.

        Args:
            encodings: Made without them.
            extract: Turns a normalised window into features.
            crops: Of the images with rejected regions.
        """
        classes = list(encodings.values())
        cells: list[Tensor] = []
        peaks: dict[int, Tensor] = {}  # (K,) of each image
        rows = zip(crops.sources, crops.features(extract), crops.rejected, strict=True)
        for number, (source, crop, mask) in enumerate(rows):
            with full_precision(crop[0]):
                cells.append(rejected_cells(crop[0][0], mask, classes[0]["scale"], self.channels))
            if number % len(self.turns):
                continue  # queries are upright
            first = self.first_logits(crop, classes)
            with full_precision(first):
                second, _ = self_supported(first, crop[0])
                second = F.interpolate(second, size=mask.shape, mode="bilinear", align_corners=False)[0]
                peak = second.masked_fill(mask.to(second.device) == 0, -torch.inf).amax((1, 2))
            peaks[source] = torch.maximum(peaks.get(source, peak), peak)
        levels = rejected_level(torch.stack(list(peaks.values())))
        return {
            name: encoding | {KEY: torch.cat(cells), LEVEL: level}
            for (name, encoding), level in zip(encodings.items(), levels, strict=True)
        }

    def calibrated(
        self,
        encodings: dict[str, Encoding],
        features: Iterable[Features],
        masks: Sequence[Tensor],
        labels: Sequence[str],
    ) -> dict[str, Encoding]:
        """Shift the odds of each class by what the head finds in its support, and count the pixels of its regions.

        See :mod:`.calibration` and :mod:`.evidence`.

        Args:
            encodings: Of these crops and of normal ones, see :meth:`statistics`.
            features: Of the marked crops.
            masks: Their masks.
            labels: Their classes.
        """
        levels: dict[str, list[Tensor]] = {name: [] for name in encodings}
        pixels: dict[str, list[Tensor]] = {name: [] for name in encodings}
        distances: dict[str, list[Tensor]] = {name: [] for name in encodings}
        for crop, shares, label in zip(features, masks, labels, strict=True):
            mask = shares.to(crop[0])
            logits = self.first_logits(crop, [encodings[label]])
            pixelwise = F.interpolate(logits, size=mask.shape[-2:], mode="bilinear", align_corners=False)
            level = marked_level(pixelwise[0, 0], mask)
            levels[label].append(level)
            pixels[label].append(region_pixels(mask))
            distances[label].append(self_supported(logits + shift([level]), crop[0])[1][0, 0])
        return {
            name: encoding
            | {
                "odds": encoding["odds"] + shift(levels[name]),
                "marked": mean_of(pixels[name]),
                "distance": mean_of(distances[name]),
            }
            for name, encoding in encodings.items()
        }

    # -- query ---------------------------------------------------------------------------------------------------------

    def logits(
        self, backbone: Backbone, image: Tensor, support: SupportEncoding, inside: Tensor | None = None
    ) -> Tensor:
        """Segment normalised images ``(B, 3, H, W)`` of any size: logits ``(B, K, H, W)``.

        Pixels that are not ``inside (B or 1, 1, H, W)`` are no evidence.
        """
        encodings = support.encodings
        found = apply_in_windows(image, partial(self._window_logits, backbone, encodings), self.windows)
        if inside is not None:
            found = found.masked_fill(~inside, NO_PIXEL)
        logits, evidence = found[:, : len(encodings)], found[:, len(encodings) :]
        if self.evidence:
            logits = suppress_weak(logits, evidence, torch.stack([encoding["marked"] for encoding in encodings]))
        if LEVEL in encodings[0]:
            logits = suppress_unsure(logits, torch.stack([encoding[LEVEL] for encoding in encodings]))
        return cut_at_half_peak(logits)

    def _window_logits(self, backbone: Backbone, encodings: Sequence[Encoding], windows: Tensor) -> Tensor:
        """Segment windows ``(n, 3, h, w)``; the backbone runs once for all classes.

        Returns:
            ``(n, 2 * K, h, w)``: the logits of the second look (see :mod:`.self_support`), then what is weighed as
            evidence, the first logits, raised or lowered by how far what was found stands out from its background,
            compared with what was marked.
        """
        features = self.features(backbone, windows)
        first = self.first_logits(features, encodings)
        with full_precision(first):
            second, distance = self_supported(first, features[0])
            marked = torch.stack([encoding["distance"] for encoding in encodings])
            both = torch.cat([second, first + (distance - marked)[..., None, None]], 1)
            return F.interpolate(both, size=windows.shape[-2:], mode="bilinear", align_corners=False)

    def first_logits(self, features: Features, encodings: Sequence[Encoding]) -> Tensor:
        """Judge the features of B windows for K classes, logits ``(B, K, 2h, 2w)``; rejected regions lower them."""
        with full_precision(features[0]):
            logits = self.judge(features, encodings)
            if KEY not in encodings[0]:
                return logits
            lowered = rejection(features[0], encodings, self.channels)
            return logits + F.interpolate(lowered, size=logits.shape[-2:], mode="bilinear", align_corners=False)

    def judge(self, features: Features, encodings: Sequence[Encoding]) -> Tensor:
        """Judge the features of B windows for K classes by the networks alone, logits ``(B, K, 2h, 2w)``."""
        outputs = self.decide(*self.relate(features, encodings))[:, 0]
        return outputs.view(-1, len(encodings), outputs.shape[-2], outputs.shape[-1])

    def relate(self, features: Features, encodings: Sequence[Encoding]) -> tuple[Tensor, Tensor]:
        """Relate B queries to K classes: maps ``(B * K, MAPS, h, w)``, and fine ones ``(B * K, 7, 2h, 2w)``."""
        grid, fine = features
        coarse = [SupportRelations(*(encoding[name] for name in SupportRelations._fields)) for encoding in encodings]
        finer = [
            FineRelations(*(encoding[FINE_PREFIX + name] for name in FineRelations._fields)) for encoding in encodings
        ]
        return relate(grid, coarse, self.channels), relate_fine(fine, finer)

    def decide(self, maps: Tensor, fine: Tensor) -> Tensor:
        """Judge relation maps ``(B, MAPS, h, w)`` and fine ones ``(B, 7, 2h, 2w)``.

        Returns:
            The logit, which includes the vote on the whole window, and that vote, ``(B, 2, 2h, 2w)``.
        """
        logits, vote = map(mean_of, zip(*(net(maps, fine) for net in self.nets), strict=True))
        return torch.cat([logits, vote[:, None, None, None].expand_as(logits)], dim=1)

    # -- training ------------------------------------------------------------------------------------------------------

    def loss(self, backbone: Backbone, episodes: Episodes) -> Tensor:
        """Relate every query to its support crops, and judge all of them together."""
        related = []
        for query, features, masks in episode_features(episodes, partial(self.features, backbone)):
            encodings = self.statistics(features, masks, [DEFECT] * len(masks))
            with full_precision(query[0]):
                related.append(self.relate(query, list(encodings.values())))
        outputs = self.decide(*(torch.cat(parts) for parts in zip(*related, strict=True)))
        target = downsample_mask(episodes.masks.float(), (outputs.shape[-2], outputs.shape[-1]))[:, None]
        return relation_loss(outputs[:, :1].float(), outputs[:, 1, 0, 0].float(), target)


def _shares(mask: Tensor, cell: int) -> Tensor:
    """Return the share of each cell that is defect ``(H / cell, W / cell)``."""
    return downsample_mask(mask[None], (mask.shape[-2] // cell, mask.shape[-1] // cell))[0]
