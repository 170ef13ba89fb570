"""What a segmentation head offers to the model, and the heads by name."""

from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal, Protocol

from jsonargparse import ArgumentParser
from torch import Tensor

from .backbone import Backbone, default_layers, is_transformer
from .normality.cells_and_spaces import CellSpaceDetector
from .normality.detector import AnomalyDetector
from .paper.head import PaperHead
from .paper.normality import AbnormalPriorDetector
from .relation.grids import BlockGrids, grids_of
from .relation.head import RelationHead

if TYPE_CHECKING:
    from anomalib_sofs.windows import Windows

    from .encoding import Encoding, SupportEncoding
    from .episodes import Episodes
    from .support_crops import SupportCrops

HeadName = Literal["relation", "paper"]
OURS: set[str | int] = {"channels", "grids", "multiple", "window_size"}
"""Arguments of heads that are no options: what they say of the backbone, and the window."""


class Segmenter(Protocol):
    """Finds what a support set marks. What it does inside is its own affair."""

    windows: "Windows"
    """What windows it takes."""
    turns: Sequence[int]
    """Quarter turns in which it sees every support crop."""
    background_windows: int
    """Most windows that it sees of the rest of a marked image, beside those over the marks."""
    weighs_rejected: bool
    """Whether rejected regions are more to it than background."""
    resizes_large: bool
    """Whether it sees defects that cover much of their image on the whole image, resized to a window."""
    resizes_all: bool
    """Whether it sees every image that way."""

    def encode(self, backbone: Backbone, crops: "SupportCrops") -> "dict[str, Encoding]":
        """Compute everything that a query needs from the crops of a support set, for each class."""

    def logits(
        self, backbone: Backbone, image: Tensor, support: "SupportEncoding", inside: Tensor | None = None
    ) -> Tensor:
        """Segment normalised images ``(B, 3, H, W)`` of any size: a logit per class ``(B, K, H, W)``.

        A head that judges the image as a whole leaves out the pixels that are not ``inside (B or 1, 1, H, W)``.
        """


class SegmentationHead(Segmenter, Protocol):
    """A segmenter that can be trained."""

    def loss(self, backbone: Backbone, episodes: "Episodes") -> Tensor:
        """Compute the training loss of some episodes, a scalar."""


def head_layers(head: HeadName, backbone: str) -> list[int]:
    """Choose the feature layers that a head reads from a backbone; of a transformer both read the paper's."""
    return default_layers(backbone) if head == "paper" or is_transformer(backbone) else [0, 1, 2, 3, 4]


def default_window(head: HeadName, backbone: Backbone) -> int:
    """Choose the window: 37 x 37 cells for ViT-B/14 (the paper's 518 pixels), about 512 pixels otherwise."""
    return backbone.stride * 37 if head == "paper" and is_transformer(backbone.name) else 512


def build_head(
    name: HeadName, backbone: Backbone, window_size: int | None = None, /, **options: Any
) -> PaperHead | RelationHead:
    """Build a head for a backbone.

    Args:
        name: ``"relation"``, the default, or ``"paper"``, the published form.
        backbone: The backbone whose features it reads.
        window_size: Largest side in pixels of a window; ``None`` takes the head's choice.
        **options: Keyword arguments of the head.

    Raises:
        ValueError: If there is no head of that name, it cannot read this backbone, the window does not suit it, or an
            option is not one of its own or not of its kind.
    """
    size = default_window(name, backbone) if window_size is None else window_size
    if name == "paper":
        _check_window(size, backbone.multiple, backbone)
        own = _checked_options(PaperHead, name, options)
        return PaperHead(backbone.channels, window_size=size, multiple=backbone.multiple, **own)
    if name == "relation":
        grids = grids_of(backbone)
        _check_window(size, RelationHead.multiple, backbone)
        own = _checked_options(RelationHead, name, options)
        return RelationHead(grids, window_size=size, **own)
    msg = f"There is no head {name!r}: choose 'relation' or 'paper'."
    raise ValueError(msg)


def build_detector(head: PaperHead | RelationHead) -> AnomalyDetector:
    """Build the anomaly detector that belongs to a head: the paper's (step 10), or ours."""
    if isinstance(head, PaperHead):
        return AbnormalPriorDetector(head.windows, scale_features=head.scale_features, coreset=head.coreset)
    return CellSpaceDetector(head.grids.patch) if isinstance(head.grids, BlockGrids) else CellSpaceDetector()


def _checked_options(kind: type, name: HeadName, options: Mapping[str, Any]) -> dict[str, Any]:
    own = [option for option in signature(kind).parameters if option not in OURS]
    # jsonargparse would say this in other words in each version
    wrong = ", ".join(f"Option {option!r} is not accepted" for option in options if option not in own)
    if not wrong:
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(kind, skip=OURS)
        try:
            return parser.parse_object(dict(options), defaults=False).as_dict()
        except ArgumentError as error:
            wrong = " ".join(str(error).split())
    msg = f"head_options of head={name!r}: {wrong}. It has {', '.join(own)}."
    raise ValueError(msg)


def _check_window(size: int, multiple: int, backbone: Backbone) -> None:
    if size < 1 or size % multiple:
        msg = f"window_size {size} is not a multiple of {multiple} pixels, as {backbone.name} needs it."
        raise ValueError(msg)
