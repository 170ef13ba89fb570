"""SOFS as a plain torch module: support set in, probability maps out; no Lightning."""

import math
from collections.abc import MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from anomalib_sofs.annotations.notices import warn_once

from .backbone import IMAGE_MEAN, IMAGE_STD, Backbone
from .contrast import contrasted
from .crop_cache import crop_cache
from .encoding import SupportEncoding
from .examples import record_of
from .heads import Segmenter, build_detector
from .least_area import highest_level
from .normality.detector import AnomalyDetector, Prediction
from .preview import preview
from .probabilities import only_inside, probabilities
from .support import SupportSet
from .support_crops import Features, SupportCrops, say_resized, seen_whole

if TYPE_CHECKING:
    from anomalib.data import InferenceBatch

TWICE_BYTES = 2**28  # of features of crops that are kept from encoding to calibration; what goes beyond is made again


class SofsModel(nn.Module):
    """Frozen backbone, segmentation head, anomaly detector and support encoding; segments images of any size.

    Args:
        backbone: The feature extractor.
        head: Finds marked defects: a :class:`~anomalib_sofs.model.heads.Segmenter`, which may be trainable.
        detector: Finds whatever normal supports do not show; ``None`` takes the one that belongs to the head.
        crops_per_shot: Most windows cut from one support image.
        threshold: The head's probability that becomes 0.5, see :class:`~anomalib_sofs.model.Sofs`.

    Raises:
        ValueError: If the threshold is no probability.
    """

    head: Segmenter
    detector: AnomalyDetector
    head_trained: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Module,
        detector: AnomalyDetector | None = None,
        crops_per_shot: int = 4,
        threshold: float = 0.5,
    ) -> None:
        super().__init__()
        if not 0 < threshold < 1:
            msg = (
                f"threshold {threshold} is no probability between 0 and 1; 0.5 is usual, 0.99 finds only what is sure."
            )
            raise ValueError(msg)
        self.backbone = backbone
        self.head = cast("Segmenter", head)
        self.detector = build_detector(cast("Any", head)) if detector is None else detector
        self.crops_per_shot = crops_per_shot
        self.threshold_logit = math.log(threshold / (1 - threshold))
        self.support = SupportEncoding()
        self.register_buffer("head_trained", torch.tensor(data=False))
        self.register_buffer("mean", torch.tensor(IMAGE_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGE_STD)[:, None, None], persistent=False)

    def normalise(self, image: Tensor) -> Tensor:
        """Normalise an image ``(..., 3, H, W)`` in [0, 1] with ImageNet statistics."""
        return (image.to(self.mean) - self.mean) / self.std

    @torch.no_grad()
    def encode(
        self, support: SupportSet, cache: MutableMapping[tuple[object, ...], Features] | None = None
    ) -> SupportEncoding:
        """Compute everything the query path needs from a support set.

        Args:
            support: Examples; images in [0, 1], not normalised.
            cache: Keeps the features of support crops by content, so that none is encoded twice.

        Returns:
            The encoding of each defect class, or of normality where every mask is empty.

        Raises:
            RuntimeError: If defects are marked but the head was never trained, or backbone weights cannot be had.
        """
        self.backbone.ensure_weights()
        task = self.detector if support.normal else self._trained_head()
        if support.shows_rejected and not task.weighs_rejected:
            warn_once(
                "rejected",
                "Rejected regions are background like any other here: %s cannot weigh them. Only head='relation' with "
                "marked defects can.",
                type(task).__name__,
            )
        whole = task.resizes_all or (task.resizes_large and seen_whole(support))
        if whole:
            say_resized(support, task.windows.size)
        crops = SupportCrops(
            support,
            task.windows,
            self.normalise,
            per_image=self.crops_per_shot,
            background=task.background_windows,
            turns=task.turns,
            whole=whole,
            cache=crop_cache(TWICE_BYTES) if cache is None else cache,
        )
        classes = task.encode(self.backbone, crops)
        return SupportEncoding(
            classes, normal=support.normal, whole=whole, preview=preview(support), record=record_of(support)
        )

    def _trained_head(self) -> Segmenter:
        if not self.head_trained:
            msg = (
                f"Few-shot segmentation needs a trained head, and there is none for backbone {self.backbone.name!r}. "
                "Train one (anomalib train --model Sofs --data SurfaceEpisodes), pass weights=PATH or ckpt_path, or "
                "use the default head, whose trained weights come with the package. Few-shot anomaly detection (normal "
                "support images only) needs none."
            )
            raise RuntimeError(msg)
        return self.head

    def predict(
        self, image: Tensor, support: SupportEncoding | None = None, paths: Sequence[str] | None = None
    ) -> Prediction:
        """Segment whole images for every class of a support encoding.

        Args:
            image: Normalised images ``(B, 3, H, W)``, any size.
            support: Defaults to the stored encoding.
            paths: Files of the images, by whose names a folder of regions of interest is read.

        Returns:
            Maps ``(B, K, H, W)`` and scores ``(B,)`` in [0, 1]: the probability of each class and its maximum, or how
            far the image is from normal, 0.5 being the limit that the support tells.

        Raises:
            RuntimeError: If there is no support encoding yet.
            ValueError: If there is no region of interest for an image, or one of another size.
        """
        support = self.support if support is None else support
        if len(support) == 0:
            msg = "No support set was encoded: pass support=FOLDER, or load a checkpoint that carries an encoding."
            raise RuntimeError(msg)
        inside = inside_of(image, support, paths)
        if support.normal:
            return self.detector.predict(self.backbone, image, support, inside)
        logits = self.logits(image, support, inside)
        maps = probabilities(logits, self.threshold_logit, support.limits, support.least_area)
        return Prediction(maps, maps.amax(dim=(1, 2, 3)))

    def logits(self, image: Tensor, support: SupportEncoding, inside: Tensor | None = None) -> Tensor:
        """Return the logits of marked classes ``(B, K, H, W)`` before any threshold; 0 is the head's own.

        Args:
            image: Normalised images ``(B, 3, H, W)``, any size.
            support: An encoding of marked classes.
            inside: Which pixels count ``(B or 1, 1, H, W)``; ``None`` if all do.
        """
        logits = self.head.logits(self.backbone, image, support, inside)
        if support.contrast is not None:
            logits = contrasted(logits, self.detector.deviation(self.backbone, image, support.contrast))
        return only_inside(logits, inside)

    def alarms(self, image: Tensor, support: SupportEncoding, paths: Sequence[str] | None = None) -> Tensor:
        """Return what limits are compared with: above it an image shows no region of the least area.

        Args:
            image: Normalised images ``(B, 3, H, W)``, any size.
            support: The encoding.
            paths: See :meth:`predict`.

        Returns:
            The highest logit of each class ``(B, K)``; of anomaly detection the highest distance of the pixels and the
            distance of the image ``(B, 2)``.
        """
        inside = inside_of(image, support, paths)
        if not support.normal:
            return highest_level(self.logits(image, support, inside), support.least_area)
        maps, score = self.detector.detect(self.backbone, image, support, inside)
        return torch.cat([highest_level(maps, support.least_area), score[:, None]], dim=1)

    def forward(self, image: Tensor, support: SupportEncoding | None = None) -> "InferenceBatch":
        """Segment normalised images ``(B, 3, H, W)`` at their own size.

        Returns:
            ``anomaly_map (B, H, W)``, the largest of the maps of :meth:`predict`, and ``pred_score (B,)``.
        """
        # not at the top: anomalib, once it is imported, imports the Lightning module, which needs this one whole
        from anomalib.data import InferenceBatch  # noqa: PLC0415

        found = self.predict(image, support)
        # of one class a view: a graph would copy a whole image to take the largest of one
        largest = found.maps[:, 0] if found.maps.shape[1] == 1 else found.maps.amax(dim=1)
        return InferenceBatch(pred_score=found.score, anomaly_map=largest)


def inside_of(image: Tensor, support: SupportEncoding, paths: Sequence[str] | None) -> Tensor | None:
    """Return which pixels of images count ``(B or 1, 1, H, W)``, bool; ``None`` if all do."""
    if support.roi is None:
        return None
    size = image.shape[-2:]
    if support.roi.fixed:
        names: Sequence[str | None] = [paths[0] if paths else None]
    else:
        names = paths or [None]
    masks = [torch.from_numpy(support.roi.inside(size, name)) for name in names]
    return torch.stack(masks).to(image.device)[:, None]
