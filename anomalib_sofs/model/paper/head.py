"""The trainable part of the published method: steps 2 to 9 on the feature maps of one patch grid."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from anomalib_sofs.model.backbone import Backbone, to_finest_grid, unit_scale
from anomalib_sofs.model.downsampling import MaskDownsampling, downsample_mask
from anomalib_sofs.model.encoding import Encoding
from anomalib_sofs.model.plain_head import PlainHead
from anomalib_sofs.model.support import rows_by_class

from .coreset import coreset
from .fusion import fuse
from .loss import DEFECT_SHARE, sofs_loss
from .priors import abnormal_prior, background_cells, defect_cells, target_semantic_prior
from .prototypes import masked_mean
from .reduction import Reduction
from .transformer import TransformerStage

CROPS = 4  # support crops that pass the transformer at once: bounds its memory, however many crops there are


class PaperHead(PlainHead):
    """Target semantic prior, abnormal prior, reduction, transformer, prototype classifier and fusion.

    Args:
        channels: Channels of each feature layer.
        dim: Reduced width ``C``.
        merged_dim: Transformer width ``C1``.
        abnormal_prior: The paper's ablation "w/o abnormal prior map" switches step 4's maps off in step 5.
        mask_downsampling: How masks reach the patch grid; ``"bilinear"`` is the paper's ablation of step 1.
        scale_features: Divide features by their mean magnitude (:func:`unit_scale`). The published form, made for
            DINOv2, does not; with a CNN's raw features its logits saturate.
        multiple: Sides of a window are multiples of this number of pixels.
        dice_smooth: Weight of normal crops in the mixed normal Dice loss.
        coreset: Keep a coreset of each layer's background cells (step 4): a share of them (0.1) or a number (1000).
            ``None`` keeps all.
    """

    fixed_window = True
    support_views = False

    def __init__(
        self,
        channels: list[int],
        dim: int = 256,
        merged_dim: int = 256,
        *,
        abnormal_prior: bool = True,
        mask_downsampling: MaskDownsampling = "area",
        scale_features: bool = False,
        dice_smooth: float = 1e5,
        multiple: int = 32,
        coreset: float | None = None,
    ) -> None:
        super().__init__()
        self.coreset = coreset
        self.multiple = self.normal_multiple = multiple
        self.dice_smooth = dice_smooth
        self.mask_downsampling = mask_downsampling
        self.scale_features = scale_features
        self.use_abnormal_prior = abnormal_prior
        self.reduction = Reduction(sum(channels), len(channels), dim, merged_dim, abnormal_prior=abnormal_prior)
        self.stages = nn.Sequential(*(TransformerStage(merged_dim) for _ in range(2)))
        self.classifier = nn.Conv2d(merged_dim, merged_dim, 1)

    @staticmethod
    def extract(backbone: Backbone, windows: Tensor, *, normal: bool) -> list[Tensor]:
        """Extract the backbone's layers; the same for both tasks."""
        del normal
        return backbone(windows)

    def prepare(self, features: list[Tensor]) -> list[Tensor]:
        """Bring the backbone's layers to one grid and, if asked for, to one scale."""
        features = to_finest_grid(features)
        return unit_scale(features) if self.scale_features else features

    def encode_crops(
        self,
        crops: Iterable[list[Tensor]],
        masks: list[Tensor],
        labels: Sequence[str],
    ) -> dict[str, Encoding]:
        """Encode support crops of one size: the features ``(1, D_l, h, w)`` and the mask ``(H, W)`` of each."""
        layers, stacked = [torch.cat(layer) for layer in zip(*crops, strict=True)], torch.stack(masks)
        return {
            name: self.encode([layer[rows] for layer in layers], stacked[rows])
            for name, rows in rows_by_class(masks, labels).items()
        }

    def encode_normal(self, crops: Iterable[list[Tensor]]) -> Encoding:
        """Encode normal support crops only (step 10): their cells are the background, nothing trained is used."""
        features = self.prepare([torch.cat(layer) for layer in zip(*crops, strict=True)])
        return self._background(features, features[0].new_zeros(len(features[0]), *features[0].shape[-2:]))

    def _background(self, features: list[Tensor], shares: Tensor) -> Encoding:
        cells = [background_cells(layer, shares) for layer in features]
        if self.coreset is not None:
            cells = [coreset(layer, self.coreset) for layer in cells]
        return {f"background_cells_{i}": layer for i, layer in enumerate(cells)}

    def anomaly(self, features: list[Tensor], encoding: Encoding) -> Tensor:
        """Abnormal prior, maximum over layers ``(B, 1, h, w)`` (step 10)."""
        return self.abnormal_priors(self.prepare(features), encoding).amax(dim=1, keepdim=True)

    @staticmethod
    def score(maps: Tensor) -> Tensor:
        """Image score of merged anomaly maps ``(B, 1, H, W)``: their maximum."""
        return maps.amax(dim=(1, 2, 3))

    def encode(self, features: list[Tensor], masks: Tensor) -> Encoding:
        """Compute everything the query path needs from the support set.

        Args:
            features: Support features, one ``(N, D_l, h, w)`` per layer.
            masks: Support masks ``(N, H, W)`` at the size of the crops.

        Returns:
            ``defect_cells_l (N, K, D_l)`` and ``background_cells_l (M, D_l)`` for each layer l, ``prototype (C,)``,
            ``class_vector (C1,)``, and the marked cells ``support_cells (T, C1)`` with ``support_shares (T,)``.
        """
        features = self.prepare(features)
        shares = downsample_mask(masks, (features[0].shape[-2], features[0].shape[-1]), self.mask_downsampling)
        encoding = {f"defect_cells_{i}": defect_cells(layer, shares) for i, layer in enumerate(features)}
        parts = [
            self._encode_marked(torch.cat(layers, dim=1), part)
            for *layers, part in zip(*(t.split(CROPS) for t in [*features, shares]), strict=True)
        ]
        prototypes, vectors, cells = (torch.cat(columns) for columns in zip(*parts, strict=True))
        return {
            **encoding,
            **self._background(features, shares),
            "prototype": prototypes.mean(dim=0),
            "class_vector": vectors.mean(dim=0),
            "support_cells": cells,
            "support_shares": shares[shares > 0],
        }

    def _encode_marked(self, features: Tensor, shares: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run support crops ``(n, sum D, h, w)`` through steps 2 and 5 to 7.

        Returns:
            Reduced prototypes ``(n, C)``, class vectors ``(n, C1)`` and the marked cells of all crops ``(t, C1)``.
        """
        cells, prototypes = self.reduction.forward_support(features, masked_mean(features, shares))
        cells = self.stages(cells)
        return prototypes, masked_mean(self.classifier(cells), shares), cells.permute(0, 2, 3, 1)[shares > 0]

    def priors(self, features: list[Tensor], encoding: Encoding) -> tuple[Tensor, Tensor]:
        """Compute both priors per layer.

        Args:
            features: Query features, one ``(B, D_l, h, w)`` per layer.
            encoding: From :meth:`encode`.

        Returns:
            Target semantic and abnormal priors, each ``(B, L, h, w)``.
        """
        semantic = [target_semantic_prior(q, encoding[f"defect_cells_{i}"]) for i, q in enumerate(features)]
        return torch.stack(semantic, dim=1), self.abnormal_priors(features, encoding)

    @staticmethod
    def abnormal_priors(features: list[Tensor], encoding: Encoding) -> Tensor:
        """Compute the abnormal prior per layer ``(B, L, h, w)``; needs no trained weight."""
        maps = [abnormal_prior(q, encoding[f"background_cells_{i}"]) for i, q in enumerate(features)]
        return torch.stack(maps, dim=1)

    def decode(self, features: list[Tensor], encoding: Encoding) -> Tensor:
        """Run the query through steps 3 to 8 and return its fused cells ``(B, C1, h, w)``."""
        semantic, abnormal = self.priors(features, encoding)
        priors = torch.cat([semantic, abnormal], dim=1) if self.use_abnormal_prior else semantic
        cells = self.reduction.forward_query(torch.cat(features, dim=1), encoding["prototype"], priors)
        return fuse(self.stages(cells), encoding["support_cells"], encoding["support_shares"])

    def compare(self, features: list[Tensor], encodings: Sequence[Encoding]) -> list[Tensor]:
        """Classify each query cell (step 9).

        Args:
            features: Query features, one ``(B, D_l, h, w)`` per layer.
            encodings: From :meth:`encode`, one per class, K of them.

        Returns:
            Logits ``(B * K, 1, h, w)``, the classes of one query next to each other.
        """
        features = self.prepare(features)
        logits = [
            torch.einsum("c,bchw->bhw", encoding["class_vector"], self.decode(features, encoding))
            for encoding in encodings
        ]
        return [torch.stack(logits, dim=1).flatten(0, 1)[:, None]]

    @staticmethod
    def decide(logits: Tensor) -> Tensor:
        """Return the logits: nothing is left to do."""
        return logits

    def loss(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Compare logits ``(B, 1, h, w)`` with masks ``(B, H, W)`` on the patch grid."""
        logits = logits[:, 0]
        shares = downsample_mask(masks, (logits.shape[-2], logits.shape[-1]))
        return sofs_loss(logits.sigmoid(), (shares > DEFECT_SHARE).float(), self.dice_smooth)
