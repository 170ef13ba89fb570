"""Few-shot segmentation by the fixed protocol: every defective image once as query, the same for all methods."""

import time
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from pandas import DataFrame
from rich.progress import Progress

from anomalib_sofs.data.datasets import QueryEpisodes
from anomalib_sofs.data.table import normals
from anomalib_sofs.metrics import EpisodeIoU

from .arguments import BenchmarkError
from .categories import segmentation_tables
from .methods import PRIOR, Method, build_methods
from .tally import NOTHING, Tally
from .timing import BackboneClock, probe_support, say
from .titles import TITLES
from .with_good import SUFFIX, good_files, with_good
from .with_witness import with_witness, witness_of
from .worst import WorstQueries

THRESHOLD = 0.5  # probability; fixed by the protocol, other values show what a stricter cut would give
NO_GOOD = "no good training images"


def run(arguments: Namespace, progress: Progress) -> list[dict[str, Any]]:
    """Run the benchmark.

    Args:
        arguments: See :func:`~anomalib_sofs.benchmark.arguments.parse`.
        progress: Where progress is shown.

    Returns:
        One row per category, shots, normal shots, seed and method.
    """
    tables = segmentation_tables(arguments.root, arguments.categories, max(arguments.shots))
    with torch.inference_mode():
        build = partial(build_methods, backbone=arguments.backbone, random_weights=arguments.random_weights)
        methods = chosen_methods(arguments.weights, arguments.device, build)
        ratios = measure_ratios(methods, arguments.device)
        rows = []
        for category, table in tables.items():
            worst = WorstQueries()
            witness = witness_of(methods[0], table) if arguments.witness else None
            for shots, normal_shots, seed in product(arguments.shots, arguments.normal_shots, arguments.seeds):
                where = {"category": category, "seed": seed, "shots": shots, "normal_shots": normal_shots}
                usable = _usable(methods, table, normal_shots)
                if not usable:
                    error = f"{len(normals(table, 'train'))} normal training images"
                    rows.append(where | {"method": methods[0].name} | NOTHING | {"error": error})
                    continue
                episodes = QueryEpisodes(table, shot=shots, seed=seed, limit=arguments.limit, normal_shot=normal_shots)
                title = f"{category}, {shots} + {normal_shots} shot, seed {seed}"
                good = good_files(table, arguments.good or 0, normal_shots)
                if good:
                    usable = [*usable, with_good(usable[0], episodes, good, arguments.false_alarms)]
                if witness is not None:
                    usable = [*usable, with_witness(usable[0], witness)]
                # pictures show the first number of shots; others would only repeat the queries
                first = (shots, normal_shots) == (arguments.shots[0], arguments.normal_shots[0])
                tallies = evaluate(episodes, usable, progress, title, worst if first else None, arguments.threshold)
                for method in usable:
                    measured = tallies[method.name].result()
                    measured["backbone_ratio"] = ratios[method.name.split("+")[0]]
                    measured |= {"good": len(good)} if method.name.endswith(SUFFIX) else {}
                    counted = {"queries": _counted(episodes), "backbone": arguments.backbone}
                    rows.append(where | {"method": method.name} | counted | measured)
                    say(progress, f"{title}, {method.name}: mIoU {100 * measured['miou']:.1f} %")
                if arguments.good and not good:
                    rows.append(where | {"method": f"{usable[0].name}{SUFFIX}"} | NOTHING | {"error": NO_GOOD})
            worst.draw(methods[0], beside(arguments.json, "worst") / category)
    return rows


def chosen_methods(
    weights: list[str], device: str, build: Callable[[str, str], list[Method]] = build_methods
) -> list[Method]:
    """Build the methods of one or several trained heads; what needs no training stands there once.

    Args:
        weights: Whose, see :func:`~anomalib_sofs.benchmark.methods.build_methods`.
        device: Where they compute.
        build: Builds those of one.

    Raises:
        BenchmarkError: If weights cannot be had, or two of them hold the same head.
    """
    methods: dict[str, Method] = {}
    for name in weights:
        for method in build(name, device):
            if method.name in methods and method.name != PRIOR:
                msg = f"--weights {','.join(weights)}: {name} makes a second row {method.name!r}. Run them apart."
                raise BenchmarkError(msg)
            methods[method.name] = method
    return sorted(methods.values(), key=lambda method: list(TITLES).index(method.name))


def _usable(methods: list[Method], table: DataFrame, normal_shots: int) -> list[Method]:
    """Choose the methods for a support set; without normal images to add, there are none.

    The target semantic prior has no use for normal supports: in its mean over the support they count as zeros.
    """
    if normal_shots == 0:
        return methods
    if len(normals(table, "train")) < normal_shots:
        return []
    return [method for method in methods if method.name != PRIOR]


def beside(json_file: Path, name: str) -> Path:
    """Return a folder of further results beside the JSON file."""
    return json_file.with_name(f"{json_file.stem}-{name}")


def _counted(episodes: QueryEpisodes) -> int:
    return sum(row.label == defect_class for row, defect_class, _ in episodes.episodes)


def measure_ratios(methods: list[Method], device: str) -> dict[str, float]:
    """Measure each method's query of a 512 x 512 image in units of the bare backbone; support encoding excluded."""
    clock, ratios = BackboneClock(device), {}
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
        worst: Collects the worst queries of the first method.
        threshold: Probability above which a pixel is found.

    Returns:
        The tally of each method, by its name.
    """
    tallies = {method.name: Tally(EpisodeIoU(episodes.class_names)) for method in methods}
    for index in progress.track(range(len(episodes)), description=title):
        item = episodes[index]
        assert item.image is not None  # noqa: S101 - every episode has one
        for method in methods:
            support = method.support(item)
            start = time.perf_counter()
            probability = method.probability(item.image, support)
            tallies[method.name].seconds.append(time.perf_counter() - start)
            found = probability > threshold
            tallies[method.name].add(item, found)
            if worst is not None and method is methods[0] and item.counted:
                worst.add(item, found)
    return tallies
