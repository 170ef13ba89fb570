"""Bundles for the runtime without PyTorch."""

from .bundle import export_bundle

__all__ = ["export_bundle"]
