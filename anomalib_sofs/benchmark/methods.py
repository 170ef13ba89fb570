"""The rows of the few-shot segmentation table."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache
from torch import Tensor

from anomalib_sofs.model import Sofs, SofsModel, SupportSet
from anomalib_sofs.model.backbone import DEFAULT_BACKBONE, Backbone
from anomalib_sofs.model.caching import kept
from anomalib_sofs.model.crop_cache import crop_cache
from anomalib_sofs.model.encoding import SupportEncoding, encoding_bytes
from anomalib_sofs.model.heads import HeadName
from anomalib_sofs.model.relation.head import RelationHead
from anomalib_sofs.model.support_crops import Features

from .arguments import BenchmarkError
from .baselines import DiscriminantHead, PriorHead

if TYPE_CHECKING:
    from .with_good import LimitedEncoder

logger = logging.getLogger(__name__)

FULL = "sofs"
PAPER = "paper"
ABLATED = "discriminant"
PRIOR = "prior"
HEADS: tuple[HeadName, ...] = ("relation", "paper")
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

    def support(self, item: Any) -> SupportEncoding:
        """Encode the support of an episode."""
        return self.encode(item.support_paths, item.support_mask_paths)

    def probability(self, image: Tensor, support: SupportEncoding) -> Tensor:
        """Segment an image ``([1,] 3, H, W)`` in [0, 1]: probabilities ``(H, W)``, on the CPU."""
        image = image.to(self.model.head_trained.device).reshape(1, *image.shape[-3:])
        return self.model.predict(self.model.normalise(image), support).maps[0].amax(dim=0).cpu()


def _loaded(backbone: Backbone, *, random_weights: bool) -> Backbone:
    backbone.weights_loaded |= random_weights
    backbone.ensure_weights()
    return backbone


def _trained_models(weights: str, backbone: str, *, random_weights: bool) -> list[SofsModel]:
    """Load SOFS with trained weights: both packaged heads, one of them by its name, or a file, which may hold either.

    Raises:
        BenchmarkError: If the weights cannot be had or fit neither head.
    """
    models, errors = [], []
    for head in [head for head in HEADS if head == weights] or HEADS:
        try:
            model = Sofs(backbone, weights="default" if weights == head else weights, head=head).model.eval()
            _loaded(model.backbone, random_weights=random_weights)
        except FileNotFoundError as error:
            raise BenchmarkError(error) from error
        except (ValueError, RuntimeError) as error:
            errors.append(str(error).splitlines()[0])
            continue
        models += [model] if bool(model.head_trained) else []
    if not models:
        raise BenchmarkError(" / ".join(errors) or f"head={weights!r} has no weights for backbone {backbone!r}.")
    return models


def _untrained(backbone: Backbone, head: Any, like: SofsModel) -> SofsModel:
    model = SofsModel(backbone, head, like.detector, like.crops_per_shot).eval()
    model.get_buffer("head_trained").fill_(value=True)  # there is nothing to train
    return model.to(like.head_trained.device)


def build_methods(
    weights: str | Path, device: str = "cpu", backbone: str = DEFAULT_BACKBONE, *, random_weights: bool = False
) -> list[Method]:
    """Build the rows: each trained head, the relation head's main map, and the training-free prior of the paper.

    Args:
        weights: ``"default"`` for both packaged heads, one of :data:`HEADS` for that one, or a file.
        device: Where they compute.
        backbone: timm name.
        random_weights: Whether the backbone's weights are not loaded.

    Raises:
        BenchmarkError: If the weights cannot be had.
    """
    methods = []
    models = [model.to(device) for model in _trained_models(str(weights), backbone, random_weights=random_weights)]
    for model in models:
        encoder = Encoder(model)
        if isinstance(model.head, RelationHead):
            main_map = _untrained(model.backbone, DiscriminantHead(model.head), model)
            methods += [Method(FULL, model, encoder), Method(ABLATED, main_map, encoder)]
        else:
            methods.append(Method(PAPER, model, encoder))
    if weights not in HEADS and not any(method.name == ABLATED for method in methods):
        logger.warning(
            "The row %r is left out: %s does not hold a relation head, which it takes apart.", ABLATED, weights
        )
    prior = _untrained(_loaded(Backbone(backbone), random_weights=random_weights), PriorHead(), models[0])
    return [*methods, Method(PRIOR, prior, Encoder(prior))]
