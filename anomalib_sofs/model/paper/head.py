"""The trainable part of the published method: steps 2 to 9 on the feature maps of one patch grid."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs.arrays import full_precision
from anomalib_sofs.model.backbone import Backbone
from anomalib_sofs.model.downsampling import MaskDownsampling, downsample_mask
from anomalib_sofs.model.encoding import Encoding, SupportEncoding
from anomalib_sofs.model.episodes import Episodes, Features, episode_features
from anomalib_sofs.model.examples import rows_by_class
from anomalib_sofs.model.resizing import shrunk
from anomalib_sofs.model.support_crops import SupportCrops
from anomalib_sofs.windows import Windows, apply_in_windows

from .background import abnormal_priors, encode_background
from .features import paper_features
from .fusion import fuse
from .loss import DEFECT_SHARE, sofs_loss
from .priors import defect_cells, target_semantic_prior
from .prototypes import masked_mean
from .reduction import Reduction
from .transformer import TransformerStage

CROPS = 4  # support crops that pass the transformer at once: bounds its memory, however many crops there are


class PaperHead(nn.Module):
    """Target semantic prior, abnormal prior, reduction, transformer, prototype classifier and fusion.

    Args:
        channels: Channels of each feature layer.
        dim: Reduced width ``C``.
        merged_dim: Transformer width ``C1``.
        abnormal_prior: The paper's ablation "w/o abnormal prior map" switches step 4's maps off in step 5.
        mask_downsampling: How masks reach the patch grid; ``"bilinear"`` is the paper's ablation of step 1.
        scale_features: Divide features by their mean magnitude (:func:`unit_scale`). The published form, made for
            DINOv2, does not; with a CNN's raw features its logits saturate.
        window_size: Side of a window in pixels, a multiple of ``multiple``.
        multiple: Sides of a window are multiples of this number of pixels.
        resizes_large: Resize the whole image to a window where every support defect covers more than 1 % of its image.
        resizes_all: Resize every image to a window; the paper's ablation of native windows.
        dice_smooth: Weight of normal crops in the mixed normal Dice loss.
        coreset: Keep a coreset of each layer's background cells (step 4): a share of them (0.1) or a number (1000).
            ``None`` keeps all.
    """

    turns = (0,)
    background_windows = 0
    weighs_rejected = False

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
        window_size: int = 512,
        multiple: int = 32,
        resizes_large: bool = True,
        resizes_all: bool = False,
        coreset: float | None = None,
    ) -> None:
        super().__init__()
        self.coreset = coreset
        self.windows = Windows(window_size, multiple, fixed=True)
        self.resizes_large = resizes_large
        self.resizes_all = resizes_all
        self.dice_smooth = dice_smooth
        self.mask_downsampling = mask_downsampling
        self.scale_features = scale_features
        self.use_abnormal_prior = abnormal_prior
        self.reduction = Reduction(sum(channels), len(channels), dim, merged_dim, abnormal_prior=abnormal_prior)
        self.stages = nn.Sequential(*(TransformerStage(merged_dim) for _ in range(2)))
        self.classifier = nn.Conv2d(merged_dim, merged_dim, 1)

    def features(self, backbone: Backbone, windows: Tensor) -> Features:
        """Extract the backbone's layers from windows ``(n, 3, h, w)``, on one grid and, if asked for, of one scale."""
        return paper_features(backbone, windows, scaled=self.scale_features)

    # -- support -------------------------------------------------------------------------------------------------------

    def encode(self, backbone: Backbone, crops: SupportCrops) -> dict[str, Encoding]:
        """Encode the crops of each class, together with the normal ones."""
        extracted = list(crops.features(partial(self.features, backbone)))
        masks, ignored = (torch.stack(planes).to(extracted[0][0]) for planes in (crops.masks, crops.ignored))

        def encode_rows(rows: Sequence[int]) -> Encoding:
            layers = zip(*(extracted[row] for row in rows), strict=True)
            return self.encode_class([torch.cat(layer) for layer in layers], masks[rows], ignored[rows])

        return {name: encode_rows(rows) for name, rows in rows_by_class(crops.masks, crops.labels).items()}

    def encode_class(self, features: Features, masks: Tensor, ignored: Tensor | None = None) -> Encoding:
        """Compute everything the query path needs from the support set.

        Args:
            features: Support features, one ``(N, D_l, h, w)`` per layer.
            masks: Support masks ``(N, H, W)`` at the size of the crops, 0..1.
            ignored: Which pixels are neither defect nor background ``(N, H, W)``; ``None`` for none.

        Returns:
            ``defect_cells_l (N, K, D_l)`` and ``background_cells_l (M, D_l)`` for each layer l, ``prototype (C,)``,
            ``class_vector (C1,)``, and the marked cells ``support_cells (T, C1)`` with ``support_shares (T,)``.
        """
        grid = features[0].shape[-2], features[0].shape[-1]
        shares = downsample_mask(masks, grid, self.mask_downsampling)
        usable = None if ignored is None else downsample_mask(ignored, grid) == 0
        encoding = {f"defect_cells_{i}": defect_cells(layer, shares) for i, layer in enumerate(features)}
        parts = [
            self._encode_marked(torch.cat(layers, dim=1), part)
            for *layers, part in zip(*(t.split(CROPS) for t in [*features, shares]), strict=True)
        ]
        prototypes, vectors, cells = (torch.cat(columns) for columns in zip(*parts, strict=True))
        return {
            **encoding,
            **encode_background(features, shares, usable, self.coreset),
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
        like = self.classifier.weight
        cells, prototypes = self.reduction.forward_support(features.to(like), masked_mean(features, shares).to(like))
        cells = self.stages(cells)
        vectors = masked_mean(self.classifier(cells).float(), shares)
        return prototypes.float(), vectors, cells.float().permute(0, 2, 3, 1)[shares > 0]

    def priors(self, features: list[Tensor], encoding: Encoding) -> tuple[Tensor, Tensor]:
        """Compute both priors per layer.

        Args:
            features: Query features, one ``(B, D_l, h, w)`` per layer.
            encoding: From :meth:`encode`.

        Returns:
            Target semantic and abnormal priors, each ``(B, L, h, w)``.
        """
        semantic = [target_semantic_prior(q, encoding[f"defect_cells_{i}"]) for i, q in enumerate(features)]
        return torch.stack(semantic, dim=1), abnormal_priors(features, encoding)

    def decode(self, features: list[Tensor], encoding: Encoding) -> Tensor:
        """Run the query through steps 3 to 8 and return its fused cells ``(B, C1, h, w)``."""
        with full_precision(features[0]):
            semantic, abnormal = self.priors(features, encoding)
        priors = torch.cat([semantic, abnormal], dim=1) if self.use_abnormal_prior else semantic
        like = self.classifier.weight
        inputs = (value.to(like) for value in (torch.cat(features, dim=1), encoding["prototype"], priors))
        cells = self.stages(self.reduction.forward_query(*inputs)).float()
        with full_precision(cells):
            return fuse(cells, encoding["support_cells"], encoding["support_shares"])

    # -- query ---------------------------------------------------------------------------------------------------------

    def logits(
        self, backbone: Backbone, image: Tensor, support: SupportEncoding, inside: Tensor | None = None
    ) -> Tensor:
        """Segment normalised images ``(B, 3, H, W)`` of any size: logits ``(B, K, H, W)``."""
        del inside  # every pixel is judged by itself
        query = shrunk(image, self.windows) if support.whole else image
        encodings = support.encodings

        def segment(windows: Tensor) -> Tensor:
            return self.classify(self.features(backbone, windows), encodings).float()

        found = apply_in_windows(query, segment, self.windows)
        if support.whole:
            found = F.interpolate(found, size=image.shape[-2:], mode="bilinear", align_corners=False)
        return found

    def classify(self, features: Features, encodings: Sequence[Encoding]) -> Tensor:
        """Classify each query cell (step 9).

        Args:
            features: Query features, one ``(B, D_l, h, w)`` per layer.
            encodings: From :meth:`encode_class`, one per class, K of them.

        Returns:
            Logits ``(B, K, h, w)``.
        """
        return torch.stack(
            [
                torch.einsum("c,bchw->bhw", encoding["class_vector"], self.decode(features, encoding).float())
                for encoding in encodings
            ],
            dim=1,
        )

    # -- training ------------------------------------------------------------------------------------------------------

    def loss(self, backbone: Backbone, episodes: Episodes) -> Tensor:
        """Classify every query by its own support crops, and compare with its mask on the patch grid."""
        rows = []
        queries, crops = episode_features(episodes, partial(self.features, backbone))
        for query, members in zip(queries, episodes.members, strict=True):
            layers = zip(*(crops[i] for i in members), strict=True)
            encoding = self.encode_class([torch.cat(layer) for layer in layers], episodes.crop_masks[members].float())
            rows.append(self.classify(query, [encoding])[:, 0])
        return self.grid_loss(torch.cat(rows), episodes.masks.float())

    def grid_loss(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Compare logits ``(B, h, w)`` with masks ``(B, H, W)`` on the patch grid."""
        shares = downsample_mask(masks, (logits.shape[-2], logits.shape[-1]))
        return sofs_loss(logits.sigmoid(), (shares > DEFECT_SHARE).float(), self.dice_smooth)
