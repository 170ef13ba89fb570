"""Metrics of few-shot segmentation, and AUPRO for images of different sizes."""

from .aupro import NativeAUPRO
from .episode_iou import EpisodeIoU
from .evaluator import SofsEvaluator

__all__ = ["EpisodeIoU", "NativeAUPRO", "SofsEvaluator"]
