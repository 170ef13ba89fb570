"""Training-free methods to compare with, as heads of :class:`~anomalib_sofs.model.torch_model.SofsModel`."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs.model.backbone import Backbone, to_finest_grid
from anomalib_sofs.model.downsampling import downsample_mask
from anomalib_sofs.model.encoding import Encoding
from anomalib_sofs.model.paper.priors import defect_cells, target_semantic_prior
from anomalib_sofs.model.plain_head import PlainHead
from anomalib_sofs.model.relation.head import RelationHead
from anomalib_sofs.model.relation.maps import RELATIONS

DISCRIMINANT_THRESHOLD = 0.5
"""Half way from the support's background, which lies at 0, to its defect, which lies at 1."""
PRIOR_THRESHOLD = 0.68
"""Best on rendered surfaces, see :mod:`.prior_threshold`; no image of any benchmark was looked at."""
STEEPNESS = 10.0  # any positive number: the decision at probability 0.5 does not depend on it


class DiscriminantHead(PlainHead):
    """SOFS without its trained network: the closed-form discriminant between defect and background alone.

    The relation head's map "settled", which is centred on the query's own background, cut at
    :data:`DISCRIMINANT_THRESHOLD`. Encodings are those of the full model.

    Args:
        head: The full model's head.
    """

    def __init__(self, head: RelationHead) -> None:
        super().__init__()
        self.head = head
        self.multiple, self.normal_multiple, self.fixed_window = head.multiple, head.normal_multiple, head.fixed_window
        self.support_views = head.support_views
        self.extract, self.compare = head.extract, head.compare
        self.encode_crops = head.encode_crops

    @staticmethod
    def decide(maps: Tensor, fine: Tensor) -> Tensor:
        """Turn relation maps into logits ``(B, 1, h, w)`` that are positive above the threshold."""
        del fine
        settled = RELATIONS.index("settled")
        return STEEPNESS * (maps[:, settled : settled + 1] - DISCRIMINANT_THRESHOLD)


class PriorHead(PlainHead):
    """The paper's target semantic prior (step 3) alone: mean over layers, cut at :data:`PRIOR_THRESHOLD`."""

    fixed_window = support_views = False
    multiple = normal_multiple = 32

    @staticmethod
    def extract(backbone: Backbone, windows: Tensor, *, normal: bool) -> list[Tensor]:
        """Extract the backbone's layers on one grid."""
        del normal
        return to_finest_grid(backbone(windows))

    @staticmethod
    def encode_crops(crops: Iterable[list[Tensor]], masks: list[Tensor], labels: Sequence[str]) -> dict[str, Encoding]:
        """Collect the marked cells of support crops of any sizes and one class: ``cells_l (N, K, D_l)`` per layer l."""
        encoding = {}
        for i, layers in enumerate(zip(*crops, strict=True)):
            cells = [
                defect_cells(layer, downsample_mask(mask[None], (layer.shape[-2], layer.shape[-1])))[0]
                for layer, mask in zip(layers, masks, strict=True)
            ]
            most = max(len(part) for part in cells)
            encoding[f"cells_{i}"] = torch.stack([F.pad(part, (0, 0, 0, most - len(part))) for part in cells])
        return {labels[0]: encoding}

    @staticmethod
    def compare(features: list[Tensor], encodings: Sequence[Encoding]) -> list[Tensor]:
        """Return the prior of the one class, mean over layers ``(B, 1, h, w)``."""
        (encoding,) = encodings
        maps = [target_semantic_prior(layer, encoding[f"cells_{i}"]) for i, layer in enumerate(features)]
        return [torch.stack(maps, dim=1).mean(dim=1, keepdim=True)]

    @staticmethod
    def decide(prior: Tensor) -> Tensor:
        """Turn the prior into logits that are positive above the threshold."""
        return STEEPNESS * (prior - PRIOR_THRESHOLD)
