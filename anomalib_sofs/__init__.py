"""SOFS, Small Object Few-shot Segmentation, for anomalib (Zhang et al. 2024, arXiv 2407.21351).

The names are loaded when they are asked for: importing the package needs neither torch nor anomalib. It makes anomalib
know our classes, as the start-up hook does.
"""

from importlib import import_module
from typing import TYPE_CHECKING

import anomalib_sofs_autoload

if TYPE_CHECKING:
    from anomalib_sofs.data import (
        DefectSpectrumEpisodes,
        FolderEpisodes,
        MVTecADEpisodes,
        MVTecLike,
        SurfaceEpisodes,
        VisaEpisodes,
        VisionEpisodes,
    )
    from anomalib_sofs.model import Sofs, SofsModel, SupportSet

__all__ = [
    "DefectSpectrumEpisodes",
    "FolderEpisodes",
    "MVTecADEpisodes",
    "MVTecLike",
    "Sofs",
    "SofsModel",
    "SupportSet",
    "SurfaceEpisodes",
    "VisaEpisodes",
    "VisionEpisodes",
]

MODEL = frozenset({"Sofs", "SofsModel", "SupportSet"})


def __getattr__(name: str) -> object:
    """Load a public name."""
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    home = import_module("anomalib_sofs.model" if name in MODEL else "anomalib_sofs.data")
    return getattr(home, name)


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})


anomalib_sofs_autoload.install(always=True)
