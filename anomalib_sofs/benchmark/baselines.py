"""Training-free methods to compare with, as heads of :class:`~anomalib_sofs.model.torch_model.SofsModel`."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs.model.backbone import Backbone
from anomalib_sofs.model.downsampling import downsample_mask
from anomalib_sofs.model.encoding import Encoding, SupportEncoding
from anomalib_sofs.model.episodes import Features
from anomalib_sofs.model.paper.features import to_finest_grid
from anomalib_sofs.model.paper.priors import defect_cells, target_semantic_prior
from anomalib_sofs.model.relation.head import RelationHead
from anomalib_sofs.model.relation.maps import RELATIONS
from anomalib_sofs.model.relation.marks import stacked
from anomalib_sofs.model.support_crops import SupportCrops
from anomalib_sofs.windows import Windows, apply_in_windows

DISCRIMINANT_THRESHOLD = 0.5
"""Half way from the support's background, which lies at 0, to its defect, which lies at 1."""
PRIOR_THRESHOLD = 0.68
"""Best on rendered surfaces (docs/benchmarks.md); no image of any benchmark was looked at."""
STEEPNESS = 10.0  # any positive number: the decision at probability 0.5 does not depend on it


class DiscriminantHead(nn.Module):
    """SOFS without its trained network: the closed-form discriminant between defect and background alone.

    The relation head's map that is centred on the query's own background, cut at :data:`DISCRIMINANT_THRESHOLD`.
    Encodings are those of the full model.

    Args:
        head: The full model's head.
    """

    def __init__(self, head: RelationHead) -> None:
        super().__init__()
        self.head = head
        self.windows, self.turns = head.windows, head.turns
        self.resizes_large, self.resizes_all = head.resizes_large, head.resizes_all
        self.background_windows, self.weighs_rejected = head.background_windows, head.weighs_rejected

    def encode(self, backbone: Backbone, crops: SupportCrops) -> dict[str, Encoding]:
        """Encode as the full model does."""
        return self.head.encode(backbone, crops)

    def logits(
        self, backbone: Backbone, image: Tensor, support: SupportEncoding, inside: Tensor | None = None
    ) -> Tensor:
        """Return logits ``(B, K, H, W)`` that are positive above the threshold."""
        del inside  # every pixel is judged by itself
        classes, count = stacked(support.encodings), len(support)
        row = RELATIONS.index("background_centred")

        def segment(windows: Tensor) -> Tensor:
            maps, _ = self.head.relate(self.head.features(backbone, windows), classes)
            return maps[:, row].view(-1, count, *maps.shape[-2:])

        return STEEPNESS * (apply_in_windows(image, segment, self.windows) - DISCRIMINANT_THRESHOLD)


class PriorHead(nn.Module):
    """The paper's target semantic prior (step 3) alone: mean over layers, cut at :data:`PRIOR_THRESHOLD`."""

    windows = Windows()
    turns: Sequence[int] = (0,)
    background_windows = 0
    weighs_rejected = False
    resizes_large = False
    resizes_all = False

    @staticmethod
    def features(backbone: Backbone, windows: Tensor) -> Features:
        """Extract the backbone's layers on one grid."""
        return to_finest_grid(backbone(windows))

    def encode(self, backbone: Backbone, crops: SupportCrops) -> dict[str, Encoding]:
        """Collect the marked cells of support crops of any sizes and one class: ``cells_l (N, K, D_l)`` per layer l."""
        features = list(crops.features(partial(self.features, backbone)))
        encoding = {}
        for i, layers in enumerate(zip(*features, strict=True)):
            cells = [
                defect_cells(layer, downsample_mask(mask[None].to(layer), (layer.shape[-2], layer.shape[-1])))[0]
                for layer, mask in zip(layers, crops.masks, strict=True)
            ]
            most = max(len(part) for part in cells)
            encoding[f"cells_{i}"] = torch.stack([F.pad(part, (0, 0, 0, most - len(part))) for part in cells])
        return {crops.labels[0]: encoding}

    def logits(
        self, backbone: Backbone, image: Tensor, support: SupportEncoding, inside: Tensor | None = None
    ) -> Tensor:
        """Return logits ``(B, 1, H, W)`` that are positive above the threshold."""
        del inside  # every pixel is judged by itself
        (encoding,) = support.encodings

        def segment(windows: Tensor) -> Tensor:
            layers = enumerate(self.features(backbone, windows))
            prior = torch.stack([target_semantic_prior(layer, encoding[f"cells_{i}"]) for i, layer in layers], dim=1)
            return prior.mean(dim=1, keepdim=True)

        return STEEPNESS * (apply_in_windows(image, segment, self.windows) - PRIOR_THRESHOLD)
