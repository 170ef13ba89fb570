"""Few-shot segmentation by the fixed protocol: every defective image once as query, the same for all methods."""

import statistics
import time
from argparse import Namespace
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from pandas import DataFrame
from rich.progress import Progress
from torch import Tensor

from anomalib_sofs.data.datasets import QueryEpisodes
from anomalib_sofs.data.items import EpisodeItem
from anomalib_sofs.data.table import normals
from anomalib_sofs.metrics import EpisodeIoU

from .background import with_windows
from .categories import segmentation_tables
from .methods import FULL, PRIOR, Method, build_methods
from .timing import BackboneClock, probe_support, say
from .worst import WorstQueries

THRESHOLD = 0.5  # probability; fixed by the protocol, other values show what a stricter cut would give


@dataclass
class Tally:
    """What one method does on the episodes of one category, seed and shot."""

    iou: EpisodeIoU
    seconds: list[float] = field(default_factory=list)
    false_areas: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, item: EpisodeItem, found: Tensor) -> None:
        """Count a query and what was found in it ``(H, W)``."""
        assert item.gt_mask is not None  # noqa: S101 - every episode has one
        if item.counted:
            self.iou.update(f"{item.category}/{item.defect_class}", found, item.gt_mask)
        else:
            self.false_areas[item.defect_class].append(float(found.float().mean()))

    def result(self) -> dict[str, Any]:
        """Return IoU per class, its mean, FB-IoU, what was found in normal images, and the median time of a query."""
        values = {name: float(value) for name, value in self.iou.compute().items()}
        iou = {name.rsplit("/", 1)[1]: value for name, value in values.items() if name.startswith("IoU/")}
        return {
            "iou": iou,
            "miou": statistics.fmean(iou.values()),
            "fb_iou": values["FB-IoU"],
            "false_positives": self._false_positives(),
            "false_area": statistics.fmean(self._every_area()) if self.false_areas else None,
            "seconds_per_image": statistics.median(self.seconds),
        }

    def _false_positives(self) -> dict[str, Any] | None:
        """Share of normal images with any region found, by class of the support too; ``None`` without normal images."""
        if not self.false_areas:
            return None
        every = [area > 0 for area in self._every_area()]
        by_class = {
            name: statistics.fmean(area > 0 for area in areas) for name, areas in sorted(self.false_areas.items())
        }
        return {"share": statistics.fmean(every), "images": len(every), "by_support_class": by_class}

    def _every_area(self) -> list[float]:
        """Share of each normal image's pixels that was found."""
        return [area for areas in self.false_areas.values() for area in areas]


def run(arguments: Namespace, progress: Progress) -> list[dict[str, Any]]:
    """Run the benchmark.

    Args:
        arguments: See :func:`~anomalib_sofs.benchmark.arguments.parse`.
        progress: Where progress is shown.

    Returns:
        One record per category, shot, normal shot, seed and method.
    """
    tables = segmentation_tables(arguments.root, arguments.categories, max(arguments.shots))
    if arguments.windows:
        tables = {
            category: with_windows(table, beside(arguments.json, "normal") / category, arguments.windows)
            for category, table in tables.items()
        }
    with torch.inference_mode():
        methods = build_methods(arguments.weights)
        ratios = measure_ratios(methods)
        records = []
        for category, table in tables.items():
            worst = WorstQueries()
            for shot, normal_shot, seed in product(arguments.shots, arguments.normal_shots, arguments.seeds):
                episodes = QueryEpisodes(table, shot=shot, seed=seed, limit=arguments.limit, normal_shot=normal_shot)
                where = {"category": category, "shot": shot, "normal_shot": normal_shot, "seed": seed}
                title = f"{category}, {shot} + {normal_shot} shot, seed {seed}"
                # pictures show the first number of shots; others would only repeat the queries
                first = (shot, normal_shot) == (arguments.shots[0], arguments.normal_shots[0])
                usable = _usable(methods, table, normal_shot)
                if not usable:
                    error = f"{len(normals(table, 'train'))} normal images: --windows cuts stand-ins"
                    records.append(where | {"method": FULL, "error": error})
                    continue
                tallies = evaluate(episodes, usable, progress, title, worst if first else None, arguments.threshold)
                for method in usable:
                    measured = tallies[method.name].result() | {"backbone_ratio": ratios[method.name]}
                    records.append(where | {"method": method.name, "queries": _counted(episodes)} | measured)
                    say(progress, f"{title}, {method.name}: mIoU {100 * measured['miou']:.1f} %")
            worst.draw(methods[0], beside(arguments.json, "worst") / category)
    return records


def _usable(methods: list[Method], table: DataFrame, normal_shot: int) -> list[Method]:
    """Choose the methods for a support set; without normal images to add, there are none.

    The target semantic prior has no use for normal supports: in its mean over the support they count as zeros.
    """
    if normal_shot == 0:
        return methods
    if len(normals(table, "train")) < normal_shot:
        return []
    return [method for method in methods if method.name != PRIOR]


def beside(json_file: Path, name: str) -> Path:
    """Return a folder of further results beside the JSON file."""
    return json_file.with_name(f"{json_file.stem}-{name}")


def _counted(episodes: QueryEpisodes) -> int:
    return sum(row.label == defect_class for row, defect_class, _ in episodes.episodes)


def measure_ratios(methods: list[Method]) -> dict[str, float]:
    """Measure each method's query of a 512 x 512 image in units of the bare backbone; support encoding excluded."""
    clock, ratios = BackboneClock(), {}
    for method in methods:
        support = method.encode.model.encode(probe_support())
        ratios[method.name] = clock.ratio(partial(method.probability, support=support))
    return ratios


def evaluate(
    episodes: QueryEpisodes,
    methods: list[Method],
    progress: Progress,
    title: str,
    worst: WorstQueries | None = None,
    threshold: float = THRESHOLD,
) -> dict[str, Tally]:
    """Run every method on every episode.

    Args:
        episodes: The episodes.
        methods: The methods.
        progress: Where progress is shown.
        title: What is shown there.
        worst: Collects the worst queries of the full method.
        threshold: Probability above which a pixel is found.

    Returns:
        The tally of each method.
    """
    tallies = {method.name: Tally(EpisodeIoU(episodes.class_names)) for method in methods}
    for index in progress.track(range(len(episodes)), description=title):
        item = episodes[index]
        assert item.image is not None  # noqa: S101 - every episode has one
        for method in methods:
            support = method.encode(item.support_paths, item.support_mask_paths)
            start = time.perf_counter()
            probability = method.probability(item.image, support)
            tallies[method.name].seconds.append(time.perf_counter() - start)
            found = probability > threshold
            tallies[method.name].add(item, found)
            if worst is not None and method.name == FULL and item.counted:
                worst.add(item, found)
    return tallies
