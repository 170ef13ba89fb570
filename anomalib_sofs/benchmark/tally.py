"""What a method found on the episodes of one category, and the numbers that this makes."""

import statistics
from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from anomalib_sofs.data.items import EpisodeItem
from anomalib_sofs.metrics import EpisodeIoU

SIZES = ("0-0.1", "0.1-0.3", "0.3-1", "1-100")
"""Sizes of the defects of one query in percent of its image, from and below."""
BOUNDS = (0.001, 0.003, 0.01)
"""Where one size ends and the next begins, as shares of the image."""
NOTHING: dict[str, Any] = {
    "iou": {},
    "iou_by_size": {},
    "miou": None,
    "fb_iou": None,
    "false_positives": None,
    "false_area": None,
}
"""The numbers of a method that could not run."""


@dataclass
class Tally:
    """What one method does on the episodes of one category, seed and shot."""

    iou: EpisodeIoU
    seconds: list[float] = field(default_factory=list)
    sizes: EpisodeIoU = field(default_factory=lambda: EpisodeIoU(SIZES))
    queries: Counter[str] = field(default_factory=Counter)
    false_areas: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, item: EpisodeItem, found: Tensor) -> None:
        """Count a query and what was found in it ``(H, W)``; ignored pixels count for nothing."""
        assert item.gt_mask is not None  # noqa: S101 - every episode has one
        truth, ignored = item.gt_mask.bool(), getattr(item, "ignore_mask", None)
        if ignored is not None:
            found, truth = found[~ignored], truth[~ignored]
        if item.counted:
            self.iou.update(f"{item.category}/{item.defect_class}", found, truth)
            size = size_of(truth)
            self.sizes.update(size, found, truth)
            self.queries[size] += 1
        else:
            self.false_areas[item.defect_class].append(float(found.float().mean()))

    def result(self) -> dict[str, Any]:
        """Return IoU per class, its mean, FB-IoU, what was found in normal images, and the median time of a query.

        ``false_positives`` is the share of the normal images in which anything was found, ``false_area`` the mean share
        of their pixels; both are ``None`` without normal images. ``iou_by_size`` pools the queries of each of
        :data:`SIZES` as ``iou`` does those of each class, ``None`` where there are none.
        """
        values = {name: float(value) for name, value in self.iou.compute().items()}
        iou = {name.rsplit("/", 1)[1]: value for name, value in values.items() if name.startswith("IoU/")}
        sizes = {name.removeprefix("IoU/"): float(value) for name, value in self.sizes.compute().items()}
        areas = [area for part in self.false_areas.values() for area in part]
        by_class = {
            name: statistics.fmean(area > 0 for area in part) for name, part in sorted(self.false_areas.items())
        }
        return {
            "iou": iou,
            "iou_by_size": {size: sizes.get(size) for size in SIZES},
            "queries_by_size": {size: self.queries[size] for size in SIZES},
            "miou": statistics.fmean(iou.values()),
            "fb_iou": values["FB-IoU"],
            "false_positives": statistics.fmean(area > 0 for area in areas) if areas else None,
            "false_area": statistics.fmean(areas) if areas else None,
            "false_positives_by_support_class": by_class,
            "normal_queries": len(areas),
            "seconds_per_image": statistics.median(self.seconds),
        }


def size_of(truth: Tensor) -> str:
    """Return which of :data:`SIZES` the defects of a query have.

    Args:
        truth: Which of the pixels that count are defect, of any shape.
    """
    return SIZES[bisect_right(BOUNDS, int(truth.sum()) / max(truth.numel(), 1))]
