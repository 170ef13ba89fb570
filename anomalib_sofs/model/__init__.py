"""The method: torch model, Lightning model, and one file per idea."""

from .lightning_model import Sofs
from .support import SupportSet
from .torch_model import SofsModel

__all__ = ["Sofs", "SofsModel", "SupportSet"]
