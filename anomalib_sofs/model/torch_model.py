"""SOFS as a plain torch module: support set in, probability maps out; no Lightning."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from typing import cast

import torch
from anomalib.data import InferenceBatch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs.annotations.labels import DEFECT, NORMAL
from anomalib_sofs.windows import apply_in_windows, continue_to, larger, window_side

from .backbone import IMAGE_MEAN, IMAGE_STD, Backbone
from .cache import ByteCache
from .encoding import Encoding, SupportEncoding, SupportRecord
from .heads import Head
from .support import SupportSet
from .support_windows import covers_much, defect_windows
from .views import views

TWICE_BYTES = 2**28  # of features of crops that are kept from encoding to calibration; what goes beyond is made again
LOGIT_EPS = 1e-7  # probabilities closer to 0 or 1 than this are all the same
PREVIEW_SIDE = 512  # pixels; a thumbnail of the first support image travels with the encoding, for the pictures


def crop_bytes(crops: list[list[Tensor]]) -> int:
    """Return the memory of cached crops in bytes."""
    return sum(layer.nbytes for features in crops for layer in features)


class CropCache(ByteCache[list[list[Tensor]]]):
    """Features of support crops by image file.

    Args:
        capacity: Bytes.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity, crop_bytes)


def one_by_one(features: list[Tensor]) -> list[list[Tensor]]:
    """Part features ``(B, D_l, h, w)`` per layer into B times ``(1, D_l, h, w)`` per layer."""
    return [list(layers) for layers in zip(*(layer.split(1) for layer in features), strict=True)]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode for a while: one crop must not change the statistics of batches."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


def preview(support: SupportSet) -> Tensor:
    """Draw the first support image ``(3, h, w)`` uint8, at most :data:`PREVIEW_SIDE` pixels, its mask outlined."""
    image, mask = support.images[0], support.masks[0].float()[None]
    ring = F.max_pool2d(mask, 3, stride=1, padding=1) - mask
    image = torch.where(ring > 0, torch.tensor([0.0, 0.8, 0.0])[:, None, None], image)
    factor = min(PREVIEW_SIDE / max(image.shape[-2:]), 1.0)
    height, width = (max(round(side * factor), 1) for side in image.shape[-2:])
    return (F.adaptive_avg_pool2d(image, (height, width)) * 255).round().to(torch.uint8)


def record_of(support: SupportSet) -> SupportRecord:
    """Describe a support set for whoever reads the results."""
    labels = [label if bool(mask.any()) else NORMAL for label, mask in zip(support.labels, support.masks, strict=True)]
    return {"images": list(support.paths), "labels": labels, "normal": support.normal}


class SofsModel(nn.Module):
    """Frozen backbone, head and support encoding; segments images of any size.

    Args:
        backbone: The feature extractor.
        head: The trainable part: a :data:`Head`, or any module with the same methods.
        window_size: Largest window in pixels that is segmented at once.
        crops_per_shot: Most windows cut from one support image.
        threshold: The head's probability that becomes 0.5, see :class:`~anomalib_sofs.model.Sofs`.

    Raises:
        ValueError: If the crop size does not suit the head, or the threshold is no probability.
    """

    head: Head
    head_trained: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Module,
        window_size: int = 512,
        crops_per_shot: int = 4,
        threshold: float = 0.5,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = cast("Head", head)
        if window_size < 1 or window_size % self.head.multiple:
            msg = f"window_size {window_size} is not a multiple of {self.head.multiple} pixels, as {backbone.name} needs it."
            raise ValueError(msg)
        if not 0 < threshold < 1:
            msg = (
                f"threshold {threshold} is no probability between 0 and 1; 0.5 is usual, 0.99 finds only what is sure."
            )
            raise ValueError(msg)
        self.window_size = window_size
        self.crops_per_shot = crops_per_shot
        self.least_logit = math.log(threshold / (1 - threshold))
        self.support = SupportEncoding()
        self.register_buffer("head_trained", torch.tensor(data=False))
        self.register_buffer("mean", torch.tensor(IMAGE_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGE_STD)[:, None, None], persistent=False)

    @torch.no_grad()
    def encode(self, support: SupportSet, cache: "CropCache | None" = None) -> SupportEncoding:
        """Compute everything the query path needs from a support set.

        Args:
            support: Examples; images in [0, 1], not normalised.
            cache: Where the features of support crops are kept by image file, so that none is encoded twice.

        Returns:
            The encoding of each defect class, or of normality where every mask is empty.

        Raises:
            RuntimeError: If defects are marked but the head was never trained, or backbone weights cannot be had.
        """
        self.backbone.ensure_weights()
        if support.normal:
            crops, _, _ = self.support_crops(support, whole=False, cache=cache)
            return SupportEncoding(
                {support.classes[0]: self.head.encode_normal(crops)},
                normal=True,
                preview=preview(support),
                record=record_of(support),
            )
        if not self.head_trained:
            msg = (
                f"Few-shot segmentation needs a trained head, and there is none for backbone {self.backbone.name!r}. "
                "Train one (anomalib train --model Sofs --data SurfaceEpisodes), pass weights=PATH or ckpt_path, or "
                "use the default backbone and head, whose trained weights come with the package. Few-shot anomaly "
                "detection (normal support images only) needs none."
            )
            raise RuntimeError(msg)
        whole = all(covers_much(mask) for mask in support.masks if mask.any())
        cache = cache or CropCache(TWICE_BYTES)
        classes = self.head.encode_crops(*self.support_crops(support, whole=whole, cache=cache))
        with evaluating(self.head):
            classes = self.head.calibrated(classes, *self.support_crops(support.marked, whole=whole, cache=cache))
        return SupportEncoding(classes, whole=whole, preview=preview(support), record=record_of(support))

    def support_crops(
        self,
        support: SupportSet,
        *,
        whole: bool,
        cache: "CropCache | None" = None,
    ) -> tuple[Iterator[list[Tensor]], list[Tensor], list[str]]:
        """Cut the windows that hold the defects and extract their features, one image at a time.

        Args:
            support: The examples.
            whole: Use whole images, resized to the crop.
            cache: See :meth:`encode`.

        Returns:
            Per crop the features ``(1, D_l, h, w)``, extracted when their turn comes: all of them at once would not fit
            into memory where there are many; the mask ``(h, w)``; and the class.
        """
        normal = support.normal
        cut = partial(self._windows, whole=whole, normal=normal)
        masks: list[Tensor] = []
        labels: list[str] = []
        for mask, label in zip(support.masks, support.labels, strict=True):
            # half of a resized mask pixel counts as defect
            masks += [(window[0, 0] > 0.5).float() for window in cut(mask[None])]  # noqa: PLR2004
            labels += [label] * (len(masks) - len(labels))

        def extract(image: Tensor, mask: Tensor) -> list[list[Tensor]]:
            windows = cut(torch.cat([self.normalise(image), mask[None].to(self.mean)]))
            return [self.head.extract(self.backbone, window[:, :3], normal=normal) for window in windows]

        def crops() -> Iterator[list[Tensor]]:
            for image, mask, path in zip(support.images, support.masks, support.paths, strict=True):
                marked = sha256(mask.cpu().numpy().tobytes()).digest()  # one image may show defects of several classes
                key = (path, marked, whole, normal)
                yield from cache.get(key, partial(extract, image, mask)) if cache else extract(image, mask)

        return crops(), masks, labels

    def _windows(self, planes: Tensor, *, whole: bool, normal: bool) -> list[Tensor]:
        """Cut planes ``(C, H, W)``, the last of them a mask, where it shows defects; ``(1, C, h, w)``, each view."""
        planes = planes[None].to(self.mean)
        if whole:
            planes = self.resize_whole(planes)
        places = defect_windows(planes[0, -1], self.window_size, self.crops_per_shot)
        side = self.window_size
        windows = [planes[..., y : y + side, x : x + side] for y, x in places]
        if self.head.support_views and not normal:
            windows = [view for window in windows for view in views(window)]
        return [self.pad(window, normal=normal) for window in windows]

    def episode_loss(self, image: Tensor, mask: Tensor, support_image: Tensor, support_mask: Tensor) -> Tensor:
        """Compute the training loss of a batch of episodes.

        Args:
            image: Normalised queries ``(B, 3, c, c)``.
            mask: Their masks ``(B, c, c)``.
            support_image: Support crops in [0, 1] ``(B, S, 3, c, c)``.
            support_mask: Their masks ``(B, S, c, c)``.

        Returns:
            A scalar.
        """
        extracted = self.head.extract(self.backbone, self.normalise(support_image.flatten(0, 1)), normal=False)
        crops, count = one_by_one(extracted), support_image.shape[1]
        queries = one_by_one(self.head.extract(self.backbone, image, normal=False))
        supports = [(crops[b * count : (b + 1) * count], list(masks.float())) for b, masks in enumerate(support_mask)]
        return self._loss(queries, mask, supports)

    def shared_episode_loss(self, image: Tensor, mask: Tensor, supports: Tensor) -> Tensor:
        """Compute the training loss of groups of episodes over the same crops, each of which is encoded once.

        Args:
            image: Normalised crops ``(B, 3, c, c)``, E of each group in turn; every one is the query of an episode.
            mask: Their masks ``(B, c, c)``.
            supports: Which crops of its group support each episode ``(B, E)``, bool.

        Returns:
            A scalar.
        """
        crops, size = one_by_one(self.head.extract(self.backbone, image, normal=False)), supports.shape[1]
        pairs = []
        for b, members in enumerate(supports):
            chosen = [b // size * size + i for i in members.nonzero()[:, 0].tolist()]
            pairs.append(([crops[i] for i in chosen], [mask[i].float() for i in chosen]))
        return self._loss(crops, mask, pairs)

    def _loss(
        self, queries: list[list[Tensor]], mask: Tensor, supports: Sequence[tuple[list[list[Tensor]], list[Tensor]]]
    ) -> Tensor:
        """Compare every query with its support crops and judge all of them together."""
        compared = []
        for query, (crops, masks) in zip(queries, supports, strict=True):
            encodings = self.head.encode_crops(crops, masks, [DEFECT] * len(crops))
            compared.append(self.head.compare(query, list(encodings.values())))
        outputs = self.head.decide(*(torch.cat(parts) for parts in zip(*compared, strict=True)))
        return self.head.loss(outputs, mask.float())

    def normalise(self, image: Tensor) -> Tensor:
        """Normalise an image ``(..., 3, H, W)`` in [0, 1] with ImageNet statistics."""
        return (image.to(self.mean) - self.mean) / self.std

    def cell_multiple(self, *, normal: bool) -> int:
        """Pixels that the sides of a window are a multiple of."""
        return self.head.normal_multiple if normal else self.head.multiple

    def pad(self, window: Tensor, *, normal: bool) -> Tensor:
        """Continue a window by reflection to the size that :func:`apply_in_windows` would give it."""
        height, width = window.shape[-2:]
        if self.head.fixed_window:
            return continue_to(window, self.window_size, self.window_size)
        multiple = self.cell_multiple(normal=normal)
        return continue_to(window, *(window_side(side, self.window_size, multiple) for side in (height, width)))

    def resize_whole(self, image: Tensor) -> Tensor:
        """Resize so that the longest side is ``window_size``; smaller images grow only for fixed windows."""
        height, width = image.shape[-2:]
        longest = larger(height, width)
        if not self.head.fixed_window:
            longest = larger(longest, self.window_size)
        # bilinear without antialiasing: exported graphs compute antialiasing wrongly, and both forms must agree
        size = [larger((side * self.window_size + longest // 2) // longest, 1) for side in (height, width)]
        return F.interpolate(image, size=size, mode="bilinear", align_corners=False)

    def segment(self, windows: Tensor, encodings: Sequence[Encoding], *, normal: bool) -> Tensor:
        """Segment windows for every class; the backbone runs once for all of them.

        Args:
            windows: Normalised ``(n, 3, h, w)``.
            encodings: Encoding of each class.
            normal: Distances from normality instead of defect probabilities.

        Returns:
            What the head refined, as probabilities, or its anomaly maps, ``(n, C, h, w)``.
        """
        features = self.head.extract(self.backbone, windows, normal=normal)
        if normal:
            cells = self.head.anomaly(features, encodings[0])
        else:
            outputs = self.head.decide(*self.head.compare(features, encodings))[:, 0]
            first = outputs.view(-1, len(encodings), outputs.shape[-2], outputs.shape[-1])
            cells = self.head.refined(features, first, encodings)
        maps = F.interpolate(cells, size=windows.shape[-2:], mode="bilinear", align_corners=False)
        return maps if normal else maps.sigmoid()

    def class_maps(self, image: Tensor, support: SupportEncoding | None = None) -> Tensor:
        """Segment whole images for every class of a support encoding.

        Args:
            image: Normalised images ``(B, 3, H, W)``, any size.
            support: Defaults to the stored encoding.

        Returns:
            Probabilities, or distances from normality, ``(B, C, H, W)``.

        Raises:
            RuntimeError: If there is no support encoding yet.
        """
        support = self.support if support is None else support
        if len(support) == 0:
            msg = "No support set was encoded: pass support=FOLDER, or load a checkpoint that carries an encoding."
            raise RuntimeError(msg)
        encodings = support.encodings

        def segment(windows: Tensor) -> Tensor:
            return self.segment(windows, encodings, normal=support.normal)

        query = self.resize_whole(image) if support.whole else image
        multiple = self.cell_multiple(normal=support.normal)
        maps = apply_in_windows(query, segment, self.window_size, multiple, fixed=self.head.fixed_window)
        if support.whole:
            maps = F.interpolate(maps, size=image.shape[-2:], mode="bilinear", align_corners=False)
        if support.normal:
            return maps
        logits = self.head.confirmed(torch.logit(maps, LOGIT_EPS), encodings)
        return (logits - self.least_logit).sigmoid()

    def forward(self, image: Tensor, support: SupportEncoding | None = None) -> InferenceBatch:
        """Segment normalised images ``(B, 3, H, W)`` at their own size.

        Returns:
            ``anomaly_map (B, H, W)``: the largest class probability, or the distance from normality, and
            ``pred_score (B,)``: its maximum, or the head's score of the anomaly maps.
        """
        support = self.support if support is None else support
        return self.summarise(self.class_maps(image, support), normal=support.normal)

    def summarise(self, maps: Tensor, *, normal: bool) -> InferenceBatch:
        """Reduce maps ``(B, C, H, W)`` of :meth:`class_maps` to one map and one score per image."""
        if normal:
            return InferenceBatch(pred_score=self.head.score(maps), anomaly_map=maps[:, 0])
        anomaly_map = maps.amax(dim=1)
        return InferenceBatch(pred_score=anomaly_map.amax(dim=(1, 2)), anomaly_map=anomaly_map)
