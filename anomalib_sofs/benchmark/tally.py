"""What a method found on the episodes of one category, and the numbers that this makes."""

import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from anomalib_sofs.data.items import EpisodeItem
from anomalib_sofs.metrics import EpisodeIoU

NOTHING: dict[str, Any] = {
    "iou": {},
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
    false_areas: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, item: EpisodeItem, found: Tensor) -> None:
        """Count a query and what was found in it ``(H, W)``; ignored pixels count for nothing."""
        assert item.gt_mask is not None  # noqa: S101 - every episode has one
        truth, ignored = item.gt_mask.bool(), getattr(item, "ignore_mask", None)
        if ignored is not None:
            found, truth = found[~ignored], truth[~ignored]
        if item.counted:
            self.iou.update(f"{item.category}/{item.defect_class}", found, truth)
        else:
            self.false_areas[item.defect_class].append(float(found.float().mean()))

    def result(self) -> dict[str, Any]:
        """Return IoU per class, its mean, FB-IoU, what was found in normal images, and the median time of a query.

        ``false_positives`` is the share of the normal images in which anything was found, ``false_area`` the mean share
        of their pixels; both are ``None`` without normal images.
        """
        values = {name: float(value) for name, value in self.iou.compute().items()}
        iou = {name.rsplit("/", 1)[1]: value for name, value in values.items() if name.startswith("IoU/")}
        areas = [area for part in self.false_areas.values() for area in part]
        by_class = {
            name: statistics.fmean(area > 0 for area in part) for name, part in sorted(self.false_areas.items())
        }
        return {
            "iou": iou,
            "miou": statistics.fmean(iou.values()),
            "fb_iou": values["FB-IoU"],
            "false_positives": statistics.fmean(area > 0 for area in areas) if areas else None,
            "false_area": statistics.fmean(areas) if areas else None,
            "false_positives_by_support_class": by_class,
            "normal_queries": len(areas),
            "seconds_per_image": statistics.median(self.seconds),
        }
