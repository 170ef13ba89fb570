"""Datamodules: episodes, and MVTec AD's layout with any image suffix."""

from .defect_spectrum import DefectSpectrumEpisodes
from .folder import FolderEpisodes
from .mvtec_like import MVTecLike
from .mvtecad import MVTecADEpisodes
from .surface_episodes import SurfaceEpisodes
from .visa import VisaEpisodes
from .vision import VisionEpisodes

__all__ = [
    "DefectSpectrumEpisodes",
    "FolderEpisodes",
    "MVTecADEpisodes",
    "MVTecLike",
    "SurfaceEpisodes",
    "VisaEpisodes",
    "VisionEpisodes",
]
