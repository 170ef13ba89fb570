"""The heads by name."""

from typing import Any

from torch import nn

from .backbone import Backbone
from .paper_head import PaperHead


def build_head(name: str, backbone: Backbone, **options: Any) -> nn.Module:  # noqa: ANN401
    """Build a head for a backbone.

    Args:
        name: ``"paper"``, the published form.
        backbone: The backbone whose features it reads.
        **options: Keyword arguments of the head.

    Raises:
        ValueError: If there is no head of that name.
    """
    if name == "paper":
        return PaperHead(backbone.channels, multiple=backbone.multiple, **options)
    msg = f"There is no head {name!r}: choose 'paper'."
    raise ValueError(msg)
