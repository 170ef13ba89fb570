"""Which pixels of which class were taken for which: the metrics of a support set with several classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from .confusion import confusion, iou_of_classes

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


def class_results(counts: Tensor, classes: Sequence[str]) -> ClassResults | None:
    """Name what was counted.

    Args:
        counts: Confusion ``(classes + 2, classes + 2)``: background, classes, and :data:`OTHER`, which is never found.
        classes: Names of the classes.

    Returns:
        The results; ``None`` if no pixel was counted.
    """
    if not counts.any():
        return None
    counts, number = counts.cpu(), len(classes)
    truth = [BACKGROUND, *classes, *([OTHER] if counts[-1].any() else [])]
    iou = iou_of_classes(counts)
    shown = {name: float(iou[i]) for i, name in enumerate(classes, start=1) if counts[i].any()}
    return ClassResults(truth, truth[: number + 1], counts[: len(truth), : number + 1].tolist(), shown)


class ClassConfusion(Metric):
    """Confusion matrix and IoU of several classes, over the pixels of all images.

    Args:
        classes: Names of the classes 1, 2, ..., the same in all processes; 0 is the background.
        **kwargs: See :class:`torchmetrics.Metric`.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, classes: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.classes = list(classes)
        side = len(self.classes) + 2
        self.add_state("counts", torch.zeros(side, side, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, found: Tensor, defect: Tensor, name: str, ignore: Tensor | None = None) -> None:
        """Add an image.

        Args:
            found: Class of each pixel ``(H, W)``, 0 where there is no defect.
            defect: True mask of the same shape.
            name: The class that it shows, or :data:`OTHER`.
            ignore: Pixels that do not count, of the same shape.
        """
        truth = defect.bool().short() * ([*self.classes, OTHER].index(name) + 1)
        self.counts = self.counts + confusion(found, truth, self.counts.shape[:2], ignore)  # type: ignore[arg-type]

    def compute(self) -> ClassResults | None:
        """Return what was counted, over all processes; ``None`` if nothing was."""
        return class_results(self.counts, self.classes)
