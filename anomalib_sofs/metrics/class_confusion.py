"""Which pixels of which class were taken for which: the metrics of a support set with several classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassConfusionMatrix

BACKGROUND, OTHER = "background", "other defects"
DEPTH = 2  # folders above a file that may name its class: ground_truth/CLASS/NAME.png and CLASS/mask/NAME.png


def class_of(files: Sequence[str | None], classes: Sequence[str]) -> str:
    """Read the class of an image off the folders that its mask or the image itself lies in.

    Args:
        files: Mask and image, whichever there are, the one to be believed first.
        classes: Names to look for.

    Returns:
        The nearest folder's name that is a class, or :data:`OTHER`.
    """
    folders = [folder.name for file in files if file for folder in list(Path(file).parents)[:DEPTH]]
    return next((name for name in folders if name in classes), OTHER)


class ClassResults(NamedTuple):
    """What :class:`ClassConfusion` counted."""

    truth: list[str]
    """The background, each class, and :data:`OTHER` where there are any."""
    found: list[str]
    """The background and each class."""
    pixels: list[list[int]]
    """A row per entry of ``truth``, a column per entry of ``found``."""
    iou: dict[str, float]
    """Of each class that some image shows."""

    def table(self) -> dict[str, float]:
        """Return ``IoU/CLASS`` of these classes and their mean ``mIoU``; empty without any."""
        values = {f"IoU/{name}": value for name, value in self.iou.items()}
        return values | {"mIoU": sum(self.iou.values()) / len(self.iou)} if values else {}


class ClassConfusion(nn.Module):
    """Confusion matrix and IoU of several classes, over the pixels of all images.

    Args:
        classes: Names of the classes 1, 2, ...; 0 is the background.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__()
        self.classes = list(classes)
        self.matrix = MulticlassConfusionMatrix(len(self.classes) + 2)

    def update(self, found: Tensor, defect: Tensor, name: str) -> None:
        """Add an image.

        Args:
            found: Class of each pixel ``(H, W)``, see :func:`~anomalib_sofs.model.class_map.class_map`.
            defect: True mask of the same shape.
            name: The class that it shows, or :data:`OTHER`.
        """
        metric: Any = self.matrix
        metric.update(found, torch.where(defect.bool(), [*self.classes, OTHER].index(name) + 1, 0))

    def compute(self) -> ClassResults | None:
        """Return what was counted, over all processes; ``None`` if nothing was."""
        metric: Any = self.matrix
        if not metric.update_called:
            return None
        matrix = metric.compute()
        count = len(self.classes)
        truth = [BACKGROUND, *self.classes, *([OTHER] if matrix[-1].any() else [])]
        both = matrix.diagonal()
        iou = both / (matrix.sum(0) + matrix.sum(1) - both).clamp(min=1)
        shown = {name: float(iou[i]) for i, name in enumerate(self.classes, start=1) if matrix[i].any()}
        return ClassResults(truth, truth[: count + 1], matrix[: len(truth), : count + 1].tolist(), shown)
