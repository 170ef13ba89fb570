"""Find marked defects without PyTorch: a bundle of exported networks, run by OpenVINO; marks may change on the line.

Needs what ``requirements.txt`` beside this file lists.
"""

from .inferencer import Prediction, SofsInferencer

__all__ = ["Prediction", "SofsInferencer"]
