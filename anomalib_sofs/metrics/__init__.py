"""Metrics of few-shot segmentation, and of anomaly detection in bounded memory for images of different sizes."""

from .aupro import AUPRO
from .auroc import AUROC, ImageAUROC
from .class_confusion import ClassConfusion
from .episode_iou import EpisodeIoU
from .evaluator import SofsEvaluator
from .f1_score import F1Score

__all__ = ["AUPRO", "AUROC", "ClassConfusion", "EpisodeIoU", "F1Score", "ImageAUROC", "SofsEvaluator"]
