"""The heads by name."""

from typing import Any, Literal

from anomalib_sofs.model.paper.head import PaperHead
from anomalib_sofs.model.relation.head import RelationHead

from .backbone import Backbone, default_layers, is_transformer

HeadName = Literal["relation", "paper"]
Head = PaperHead | RelationHead
"""What both offer to the model: ``extract`` reads features, ``encode_crops`` or ``encode_normal`` encodes the support,
``calibrated`` adjusts that to what is found in the support itself, ``compare`` and ``decide`` find defects, ``refined``
looks again at what was found, ``confirmed`` drops what too little speaks for, ``anomaly`` and ``score`` find whatever
is off, ``loss`` trains."""
RELATION_STRIDES = [2, 4, 8, 16, 32]


def head_layers(head: HeadName, backbone: str) -> list[int]:
    """Choose the feature layers that a head reads from a backbone.

    Raises:
        ValueError: If the head cannot read this backbone.
    """
    if head == "paper":
        return default_layers(backbone)
    if is_transformer(backbone):
        msg = f"head='relation' needs a CNN with strides 2 to 32; {backbone!r} is a transformer. Use head='paper'."
        raise ValueError(msg)
    return [0, 1, 2, 3, 4]


def default_crop(head: HeadName, backbone: Backbone) -> int:
    """Choose the window: 37 x 37 cells for ViT-B/14 (the paper's 518 pixels), about 512 pixels otherwise."""
    return backbone.stride * 37 if head == "paper" and is_transformer(backbone.name) else 512


def build_head(name: HeadName, backbone: Backbone, **options: Any) -> Head:
    """Build a head for a backbone.

    Args:
        name: ``"relation"``, the default, or ``"paper"``, the published form.
        backbone: The backbone whose features it reads.
        **options: Keyword arguments of the head.

    Raises:
        ValueError: If there is no head of that name, or it cannot read this backbone.
    """
    if name == "paper":
        return PaperHead(backbone.channels, multiple=backbone.multiple, **options)
    if name == "relation":
        if backbone.strides != RELATION_STRIDES:
            msg = (
                f"head='relation' reads strides {RELATION_STRIDES}, but layers {backbone.layers} of {backbone.name!r} "
                f"have {backbone.strides}. Leave layers=None, choose another CNN, or use head='paper'."
            )
            raise ValueError(msg)
        return RelationHead(backbone.channels, **options)
    msg = f"There is no head {name!r}: choose 'relation' or 'paper'."
    raise ValueError(msg)
