"""The full model with thresholds that good images tell: a row of its own beside the plain one."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from pandas import DataFrame
from torch import Tensor, nn

from anomalib_sofs.data.datasets import QueryEpisodes
from anomalib_sofs.data.table import normals
from anomalib_sofs.model import SofsModel
from anomalib_sofs.model.backbone import Backbone
from anomalib_sofs.model.caching import kept
from anomalib_sofs.model.crop_cache import crop_cache
from anomalib_sofs.model.encoding import SupportEncoding
from anomalib_sofs.model.false_alarms import GoodImages, learn_limits
from anomalib_sofs.model.support_crops import digest

from .methods import Encoder, Method

SUFFIX = "+good"
"""Of the row's name."""
CACHE_BYTES = 2**29


class RememberingBackbone(nn.Module):
    """A backbone that keeps what it has last extracted: all support sets are compared with one good image in turn.

    Args:
        backbone: The backbone.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.kept = crop_cache(CACHE_BYTES)

    def __getattr__(self, name: str) -> Any:
        """Return what the backbone says of itself."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("backbone"), name)

    def forward(self, image: Tensor, layers: slice = slice(None), times: int = 1) -> list[Tensor]:
        """Extract features, see :class:`~anomalib_sofs.model.backbone.Backbone`."""
        key = (digest(image), str(layers), times)
        return kept(self.kept, key, lambda: self.backbone(image, layers, times))


@dataclass
class LimitedEncoder:
    """Encodes support sets as another one does, and adds the thresholds.

    Args:
        plain: The other one.
        supports: Images and masks of all support sets of one category.
        good: Good images of the category.
    """

    plain: Encoder
    supports: Iterable[tuple[list[str], list[str]]]
    good: GoodImages
    limited: dict[object, SupportEncoding] = field(default_factory=dict)

    @property
    def model(self) -> SofsModel:
        """The model whose head encodes."""
        return self.plain.model

    def __call__(self, images: list[str], masks: list[str]) -> SupportEncoding:
        """Return the encoding of one of the support sets; all of them are limited when the first is asked for."""
        if not self.limited:
            for support in self.supports:
                key = tuple(map(tuple, support))
                if key not in self.limited:
                    self.limited[key] = copy.deepcopy(self.plain(*support))
            backbone: Any = RememberingBackbone(self.model.backbone)
            head: Any = self.model.head
            remembering = SofsModel(backbone, head, self.model.detector).eval()
            learn_limits(remembering, list(self.limited.values()), self.good)
        return self.limited[tuple(images), tuple(masks)]


def with_good(method: Method, episodes: QueryEpisodes, files: Sequence[str], rate: float) -> Method:
    """Return a method with thresholds that good images tell.

    Args:
        method: The full model.
        episodes: Of one category.
        files: Good images of the category, none of them a support or a query.
        rate: Share of good images that may get a region.
    """
    plain = cast("Encoder", method.encode)
    encoder = LimitedEncoder(plain, episodes.supports, GoodImages(files, rate))
    return replace(method, name=f"{method.name}{SUFFIX}", encode=encoder)


def good_files(table: DataFrame, count: int, normal_shots: int) -> list[str]:
    """Return the first good training images of a category by name, less those that are supports."""
    files: list[str] = normals(table, "train")["image_path"].tolist()
    return files[normal_shots:][:count]
