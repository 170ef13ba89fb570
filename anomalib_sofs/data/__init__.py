"""Episode datamodules."""

from .defect_spectrum import DefectSpectrumEpisodes
from .folder import FolderEpisodes
from .mvtecad import MVTecADEpisodes
from .mvtecad import accept_all_suffixes as accept_all_suffixes
from .surface_episodes import SurfaceEpisodes
from .visa import VisaEpisodes
from .vision import VisionEpisodes

__all__ = [
    "DefectSpectrumEpisodes",
    "FolderEpisodes",
    "MVTecADEpisodes",
    "SurfaceEpisodes",
    "VisaEpisodes",
    "VisionEpisodes",
]
