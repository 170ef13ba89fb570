"""Pictures and machine-readable results."""

from .visualizer import SofsVisualizer

__all__ = ["SofsVisualizer"]
