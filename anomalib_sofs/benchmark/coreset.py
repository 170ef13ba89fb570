"""What a coreset of the background cells costs: the abnormal prior (step 4) with all cells and with some.

The prior needs no training. It is judged by the average precision of its map, mean over layers, for the pixels of the
class that the support marks: no threshold takes part.
"""

import statistics
import time
from argparse import Namespace
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from anomalib_sofs.data.datasets import QueryEpisodes
from anomalib_sofs.model import SofsModel
from anomalib_sofs.model.backbone import DEFAULT_BACKBONE, Backbone
from anomalib_sofs.model.encoding import Encoding
from anomalib_sofs.model.paper.head import PaperHead
from anomalib_sofs.model.torch_model import CropCache

from .categories import segmentation_tables
from .markdown import table
from .methods import CACHE_BYTES, Encoder, Method
from .scores import average_precision
from .timing import say

SEED = 0
EVERY = 4  # pixels between those that are compared, in both directions: a cell is 8


class AbnormalPriorHead(PaperHead):
    """The paper's head reduced to its abnormal prior."""

    def encode_crops(
        self, crops: Iterable[list[Tensor]], masks: list[Tensor], labels: Sequence[str]
    ) -> dict[str, Encoding]:
        """Collect the background cells."""
        encoded = super().encode_crops(crops, masks, labels)
        return {
            label: {name: cells for name, cells in encoding.items() if name.startswith("background")}
            for label, encoding in encoded.items()
        }

    def compare(self, features: list[Tensor], encodings: Sequence[Encoding]) -> list[Tensor]:
        """Return the prior of the one class, mean over layers ``(B, 1, h, w)``: whatever rises with it ranks alike."""
        (encoding,) = encodings
        return [self.abnormal_priors(self.prepare(features), encoding).mean(dim=1, keepdim=True)]


def run(arguments: Namespace, progress: Progress) -> list[dict[str, Any]]:
    """Run the benchmark.

    Args:
        arguments: See :func:`~anomalib_sofs.benchmark.arguments.parse`.
        progress: Where progress is shown.

    Returns:
        One record per category, number of shots and size of the coreset, ``None`` for all cells.
    """
    tables = segmentation_tables(arguments.root, arguments.categories, max(arguments.shots))
    backbone = Backbone(DEFAULT_BACKBONE)
    backbone.ensure_weights()
    crops = CropCache(CACHE_BYTES)
    records = []
    for category, samples in tables.items():
        for shot in arguments.shots:
            episodes = QueryEpisodes(samples, shot=shot, seed=SEED, limit=arguments.limit, normal_queries=False)
            for size in (None, *arguments.sizes):
                title = f"{category}, {shot} shot, {'all cells' if size is None else f'coreset={size:g}'}"
                measured = _measure(_method(backbone, size, crops), episodes, progress, title)
                records.append({"category": category, "shot": shot, "coreset": size, **measured})
                say(progress, f"{title}: AP {100 * measured['mean_ap']:.1f} %")
    return records


def _method(backbone: Backbone, size: float | None, crops: CropCache) -> Method:
    head = AbnormalPriorHead(backbone.channels, 8, 8, multiple=backbone.multiple, coreset=size)
    model = SofsModel(backbone, head).eval()
    model.head_trained.fill_(value=True)  # nothing that could be trained takes part
    return Method("abnormal prior", model, Encoder(model, crops=crops))


def _measure(method: Method, episodes: QueryEpisodes, progress: Progress, title: str) -> dict[str, Any]:
    pixels, seconds, cells = defaultdict(list), defaultdict(list), []
    with torch.inference_mode():
        for index in progress.track(range(len(episodes)), description=title):
            item = episodes[index]
            assert item.image is not None and item.gt_mask is not None  # noqa: S101, PT018 - episodes have both
            start = time.perf_counter()
            support = method.encode(item.support_paths, item.support_mask_paths)
            encoded = time.perf_counter()
            prior = method.probability(item.image, support)[::EVERY, ::EVERY]
            seconds["encode"].append(encoded - start)
            seconds["query"].append(time.perf_counter() - encoded)
            cells.append(len(support.encodings[0]["background_cells_0"]))
            pixels[item.defect_class].append(
                (prior.flatten().numpy(), item.gt_mask[::EVERY, ::EVERY].flatten().numpy())
            )
    ap = {
        name: average_precision(*(np.concatenate(part) for part in zip(*pairs, strict=True)))
        for name, pairs in pixels.items()
    }
    return {
        "ap": ap,
        "mean_ap": statistics.fmean(ap.values()),
        "queries": len(episodes),
        "cells": statistics.fmean(cells),
        "encode_seconds": statistics.median(seconds["encode"]),
        "query_seconds": statistics.median(seconds["query"]),
    }


def tables(records: Sequence[dict[str, Any]]) -> list[str]:
    """Draw one table."""
    head = ["category", "shots", "coreset", "cells", "AP %", "AP % by class", "s to encode", "s / query"]
    lines = [
        [
            record["category"],
            record["shot"],
            "all" if record["coreset"] is None else f"{record['coreset']:g}",
            f"{record['cells']:.0f}",
            f"{100 * record['mean_ap']:.1f}",
            ", ".join(f"{name} {100 * value:.1f}" for name, value in record["ap"].items()),
            f"{record['encode_seconds']:.2f}",
            f"{record['query_seconds']:.3f}",
        ]
        for record in records
    ]
    note = (
        "AP: average precision of the abnormal prior over the pixels of all queries of a class. Cells: mean per layer."
    )
    return [*table(head, lines), note, ""]
