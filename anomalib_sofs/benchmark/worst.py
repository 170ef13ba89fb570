"""Pictures of the queries that went worst: the quickest way to see what a number hides."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from anomalib_sofs.data.items import EpisodeItem
from anomalib_sofs.tensors import read_image, read_mask
from anomalib_sofs.visualization.panels import FOUND, TRUTH, Picture, heat, outline, side_by_side

from .methods import Method

COUNT = 10  # pictures per class
THRESHOLD = 0.5


@dataclass(frozen=True, order=True)
class _Query:
    iou: float
    negative_error: int  # wrong pixels, negated: among equal IoU the largest error first
    image: str
    mask: str
    support: tuple[str, ...]
    support_masks: tuple[str, ...]


class WorstQueries:
    """Collects queries by class and draws those with the lowest IoU; every query once, with its worst support."""

    def __init__(self) -> None:
        self.classes: dict[str, dict[str, _Query]] = {}

    def add(self, item: EpisodeItem, found: Tensor) -> None:
        """Consider a query and what was found in it ``(H, W)`` boolean."""
        assert item.gt_mask is not None  # noqa: S101 - every episode has one
        truth, ignored = item.gt_mask.bool(), getattr(item, "ignore_mask", None)
        if ignored is not None:
            found, truth = found & ~ignored, truth & ~ignored
        union, both = int((found | truth).sum()), int((found & truth).sum())
        query = _Query(
            both / union if union else 1.0,
            both - union,
            str(item.image_path),
            str(item.mask_path),
            tuple(item.support_paths),
            tuple(item.support_mask_paths),
        )
        known = self.classes.setdefault(item.defect_class, {})
        known[query.image] = min(query, known.get(query.image, query))

    def draw(self, method: Method, folder: Path) -> None:
        """Write ``CLASS/RANK-iouIOU-NAME.png``: support, query, truth, probability and prediction.

        Args:
            method: The method that the queries were collected from.
            folder: Where to write; pictures of an earlier run in it are removed.
        """
        for name, queries in self.classes.items():
            target = folder / name
            target.mkdir(parents=True, exist_ok=True)
            for old in target.glob("[0-9][0-9]-iou*.png"):
                old.unlink()
            for rank, query in enumerate(sorted(queries.values())[:COUNT], start=1):
                file = target / f"{rank:02}-iou{query.iou:.2f}-{Path(query.image).stem}.png"
                self._draw(method, name, query, file)

    @staticmethod
    def _draw(method: Method, name: str, query: _Query, file: Path) -> None:
        support = method.encode(list(query.support), list(query.support_masks))
        probability = method.probability(read_image(query.image), support).numpy()
        image = _picture(query.image)
        marked = outline(_picture(query.support[0]), _mask(query.support_masks[0]), TRUTH)
        panels = [
            (f"support ({name})", marked),
            ("query", image),
            ("truth", outline(image, _mask(query.mask), TRUTH)),
            ("probability", heat(image, probability)),
            (f"IoU {query.iou:.2f}", outline(image, probability > THRESHOLD, FOUND)),
        ]
        footer = f"{Path(query.image).name}  support: {', '.join(Path(path).name for path in query.support)}"
        side_by_side(panels, footer).save(file)


def _picture(path: str) -> Picture:
    return (read_image(path).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)


def _mask(path: str) -> np.ndarray:
    return read_mask(path).numpy() == 1
