"""The method: torch model, Lightning model, and one file per idea.

The names are loaded when they are asked for: what the runtime shares with the model needs no PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .lightning_model import Sofs
    from .support import SupportSet
    from .torch_model import SofsModel

__all__ = ["Sofs", "SofsModel", "SupportSet"]

HOMES = {"Sofs": "lightning_model", "SofsModel": "torch_model", "SupportSet": "support"}


def __getattr__(name: str) -> object:
    """Load a public name."""
    if name not in HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{HOMES[name]}"), name)
