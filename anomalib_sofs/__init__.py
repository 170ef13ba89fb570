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
    from anomalib_sofs.deploy import export_bundle
    from anomalib_sofs.model import Sofs, SofsModel, SupportSet
    from anomalib_sofs.runtime import SofsInferencer

__all__ = [
    "DefectSpectrumEpisodes",
    "FolderEpisodes",
    "MVTecADEpisodes",
    "MVTecLike",
    "Sofs",
    "SofsInferencer",
    "SofsModel",
    "SupportSet",
    "SurfaceEpisodes",
    "VisaEpisodes",
    "VisionEpisodes",
    "export_bundle",
]

__version__ = "0.2.0"

HOMES = dict.fromkeys(("Sofs", "SofsModel", "SupportSet"), "model") | {
    "SofsInferencer": "runtime",
    "export_bundle": "deploy",
}
"""Rooms of the names that are no datasets."""


def __getattr__(name: str) -> object:
    """Load a public name."""
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{HOMES.get(name, 'data')}"), name)


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})


anomalib_sofs_autoload.install(always=True)
