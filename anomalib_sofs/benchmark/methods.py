"""The rows of the few-shot segmentation table."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cachetools import LRUCache
from torch import Tensor

from anomalib_sofs.model import Sofs, SofsModel, SupportSet
from anomalib_sofs.model.backbone import DEFAULT_BACKBONE, Backbone
from anomalib_sofs.model.caching import kept
from anomalib_sofs.model.crop_cache import crop_cache
from anomalib_sofs.model.encoding import SupportEncoding, encoding_bytes
from anomalib_sofs.model.relation.head import RelationHead
from anomalib_sofs.model.support_crops import Features

from .arguments import BenchmarkError
from .baselines import DiscriminantHead, PriorHead

if TYPE_CHECKING:
    from .with_good import LimitedEncoder

logger = logging.getLogger(__name__)

FULL = "sofs"
ABLATED = "discriminant"
PRIOR = "prior"
CACHE_BYTES = 2**29


@dataclass
class Encoder:
    """Encodes support sets once, by their files.

    Args:
        model: The model whose head encodes.
    """

    model: SofsModel
    encodings: LRUCache[object, SupportEncoding] = field(
        default_factory=lambda: LRUCache(CACHE_BYTES, getsizeof=encoding_bytes)
    )
    crops: LRUCache[tuple[object, ...], Features] = field(default_factory=lambda: crop_cache(CACHE_BYTES))

    def __call__(self, images: list[str], masks: list[str]) -> SupportEncoding:
        """Encode support files; masks are ``""`` for normal images."""
        return kept(
            self.encodings,
            (tuple(images), tuple(masks)),
            lambda: self.model.encode(SupportSet.from_files(images, masks), cache=self.crops),
        )


@dataclass
class Method:
    """One way to segment.

    Args:
        name: Its row.
        model: Maps a query and an encoding to probabilities.
        encode: Encodes supports; methods that read the same encoding share it.
    """

    name: str
    model: SofsModel
    encode: "Encoder | LimitedEncoder"

    def probability(self, image: Tensor, support: SupportEncoding) -> Tensor:
        """Segment an image ``([1,] 3, H, W)`` in [0, 1]: probabilities ``(H, W)``, on the CPU."""
        image = image.to(self.model.head_trained.device).reshape(1, *image.shape[-3:])
        return self.model.predict(self.model.normalise(image), support).maps[0].amax(dim=0).cpu()


def _full_model(weights: str) -> SofsModel:
    """Load SOFS with trained weights; a checkpoint may hold either head.

    Raises:
        BenchmarkError: If the weights cannot be had or fit neither head.
    """
    errors = []
    heads: tuple[Literal["relation", "paper"], ...] = ("relation",) if weights == "default" else ("relation", "paper")
    for head in heads:
        try:
            model = Sofs(weights=weights, head=head).model.eval()
            model.backbone.ensure_weights()
        except FileNotFoundError as error:
            raise BenchmarkError(error) from error
        except (ValueError, RuntimeError) as error:
            errors.append(str(error).splitlines()[0])
            continue
        if not bool(model.head_trained):
            msg = f"No trained head comes with the package for {DEFAULT_BACKBONE}. Pass --weights PATH."
            raise BenchmarkError(msg)
        return model
    raise BenchmarkError(" / ".join(errors))


def _untrained(backbone: Backbone, head: Any, like: SofsModel) -> SofsModel:
    model = SofsModel(backbone, head, like.detector, like.crops_per_shot).eval()
    model.get_buffer("head_trained").fill_(value=True)  # there is nothing to train
    return model.to(like.head_trained.device)


def build_methods(weights: str | Path, device: str = "cpu") -> list[Method]:
    """Build the rows: the full model, its ablation, and the training-free prior of the paper.

    Args:
        weights: ``"default"`` or a file.
        device: Where they compute.

    Raises:
        BenchmarkError: If the weights cannot be had.
    """
    full = _full_model(str(weights)).to(device)
    encoder = Encoder(full)
    methods = [Method(FULL, full, encoder)]
    if isinstance(full.head, RelationHead):
        methods.append(Method(ABLATED, _untrained(full.backbone, DiscriminantHead(full.head), full), encoder))
    else:
        logger.warning(
            "The row %r is left out: %s does not hold a relation head, which it takes apart.", ABLATED, weights
        )
    backbone = Backbone(DEFAULT_BACKBONE)
    backbone.ensure_weights()
    prior = _untrained(backbone, PriorHead(), full)
    return [*methods, Method(PRIOR, prior, Encoder(prior))]
