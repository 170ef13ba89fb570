"""SOFS, Small Object Few-shot Segmentation, for anomalib (Zhang et al. 2024, arXiv 2407.21351)."""

from anomalib_sofs.data import MVTecADEpisodes, SurfaceEpisodes
from anomalib_sofs.model import Sofs, SofsModel, SupportSet
from anomalib_sofs.registration import register

__all__ = [
    "MVTecADEpisodes",
    "Sofs",
    "SofsModel",
    "SupportSet",
    "SurfaceEpisodes",
]

register()
