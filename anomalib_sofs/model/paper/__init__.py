"""SOFS as published (Zhang et al. 2024), one file per step of the method."""
