"""How a probability map becomes the score of an image: defective images against good ones, by class.

Every defective image gets the support of the fixed protocol; every good one gets, for each class, the support that the
protocol would draw for it. Several ways to score the same maps are compared.
"""

import statistics
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pandas import DataFrame
from rich.progress import Progress
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs.data.protocol import choose_support
from anomalib_sofs.data.surface_episodes import NOVEL, render_product
from anomalib_sofs.data.table import defects, normals
from anomalib_sofs.tensors import read_image

from .categories import segmentation_tables
from .markdown import MISSING, PERCENT, table
from .methods import Method, build_methods
from .scores import auroc
from .timing import say

SEED = 0
THRESHOLD = 0.5
SURFACES = [f"{surface}_{style}" for surface in NOVEL for style in range(2)]
IMAGES_PER_CLASS, SIDE = 8, 256  # of the rendered surfaces
RENDERED = "rendered surfaces"
FLOOR = 1e-5
"""Probability of a plain background."""


def stands_out(p: Tensor) -> Tensor:
    """Divide the odds of the maximum by how much the background's odds, their harmonic mean, exceed the floor's."""
    p = p.clamp(FLOOR, 1 - FLOOR)
    peak, against = p.max(), ((1 - p) / p).mean()  # 1 / harmonic mean of the odds
    odds = peak / (1 - peak) * against * (FLOOR / (1 - FLOOR))
    return odds / (1 + odds)


def _highest(count: int) -> Callable[[Tensor], Tensor]:
    return lambda p: p.flatten().topk(min(count, p.numel()))[0].mean()


def _highest_share(share: float) -> Callable[[Tensor], Tensor]:
    return lambda p: p.flatten().topk(max(int(share * p.numel()), 1))[0].mean()


def _smooth_maximum(side: int) -> Callable[[Tensor], Tensor]:
    return lambda p: F.avg_pool2d(p[None, None], side, 1, side // 2, count_include_pad=False).max()


def _log_mean_exp(steepness: float) -> Callable[[Tensor], Tensor]:
    return lambda p: ((steepness * p).flatten().logsumexp(0) - np.log(p.numel())) / steepness


SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "maximum": torch.max,
    "maximum, against the background": stands_out,
    "maximum less median": lambda p: p.max() - p.median(),
    **{f"mean of the {n} highest pixels": _highest(n) for n in (10, 100)},
    **{f"mean of the highest {100 * share:g} %": _highest_share(share) for share in (0.001, 0.01, 0.05)},
    **{f"maximum, smoothed over {side} pixels": _smooth_maximum(side) for side in (3, 7, 15)},
    **{f"log mean exp of {steepness} p": _log_mean_exp(steepness) for steepness in (10, 50)},
    "share above 0.5": lambda p: (p > THRESHOLD).float().mean(),
    "mean": torch.mean,
}


def run(arguments: Namespace, progress: Progress) -> list[dict[str, Any]]:
    """Run the benchmark.

    Args:
        arguments: See :func:`~anomalib_sofs.benchmark.arguments.parse`.
        progress: Where progress is shown.

    Returns:
        One record per class: of each score the AUROC (``None`` without good images) and the shares of defective and of
        good images above 0.5.
    """
    sets = list(segmentation_tables(arguments.root, arguments.categories, 1).items())
    if arguments.surfaces:
        _render(arguments.surfaces, progress)
        sets += [(RENDERED, samples) for samples in segmentation_tables(arguments.surfaces, SURFACES, 1).values()]
    method = build_methods(arguments.weights)[0]
    records = []
    with torch.inference_mode():
        for group, samples in sets:
            for name, queries in _queries(samples, arguments.limit):
                category = str(samples["category"].iloc[0])
                title = f"{category}, {name}"
                scores = [_scores(method, *query) for query in progress.track(queries, description=title)]
                defect = np.array([query.label == name for query, _ in queries])
                measured = {score: _measure(np.array([s[score] for s in scores]), defect) for score in SCORES}
                records.append({"group": group, "category": category, "class": name, "scores": measured})
                say(progress, f"{title}: {len(queries)} queries")
    return records


def _render(root: Path, progress: Progress) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for product in progress.track(SURFACES, description="rendering"):
        if not (root / product).is_dir():
            render_product(root, product, IMAGES_PER_CLASS, SIDE)


Row = Any  # a named tuple of the samples table


def _queries(samples: DataFrame, limit: int | None) -> Iterator[tuple[str, list[tuple[Row, Row]]]]:
    """Yield for each class its name and every query, defective ones first, with its support."""
    category = str(samples["category"].iloc[0])
    good: list[Row] = list(normals(samples, "test").itertuples())[:limit]
    for name, part in defects(samples).groupby("label"):
        rows: list[Row] = list(part.itertuples())
        pairs = []
        for query in rows[:limit] + good:
            others = [row for row in rows if row.image_path != query.image_path]
            (support,) = choose_support(
                others, 1, seed=SEED, category=category, defect_class=str(name), query=query.image_path
            )
            pairs.append((query, support))
        yield str(name), pairs


def _scores(method: Method, query: Row, support: Row) -> dict[str, float]:
    encoding = method.encode([support.image_path], [support.mask_path])
    probability = method.probability(read_image(query.image_path), encoding)
    return {name: float(score(probability)) for name, score in SCORES.items()}


def _measure(scores: np.ndarray, defect: np.ndarray) -> dict[str, float | None]:
    found = scores > THRESHOLD
    alarms = float(found[~defect].mean()) if (~defect).any() else None
    return {"auroc": auroc(scores, defect), "recall": float(found[defect].mean()), "false_alarms": alarms}


def tables(records: Sequence[dict[str, Any]]) -> list[str]:
    """Draw a table over the means of all categories, and one of the classes of each category on disk."""
    groups = list(dict.fromkeys(record["group"] for record in records))
    columns = [(group, measure) for group in groups for measure in ("auroc", "recall", "false_alarms")]
    titles = {"auroc": "AUROC", "recall": "recall %", "false_alarms": "false alarms %"}
    head = ["score", *(f"{group}, {titles[measure]}" for group, measure in columns)]
    lines = [[score, *(_cell(_mean(records, group, score, m), m) for group, m in columns)] for score in SCORES]
    text = [*table(head, lines), "Means over the classes. Recall, false alarms: defective, good images above 0.5.", ""]
    for group in groups:
        members = [record for record in records if record["group"] == group]
        if group == RENDERED or _mean(members, group, "maximum", "auroc") is None:
            continue
        rows = [[s, *(_cell(member["scores"][s]["auroc"], "auroc") for member in members)] for s in SCORES]
        text += [f"AUROC of each class of {group}:", ""]
        text += table(["score", *(member["class"] for member in members)], rows)
    return text


def _mean(records: Sequence[dict[str, Any]], group: str, score: str, measure: str) -> float | None:
    values = [record["scores"][score][measure] for record in records if record["group"] == group]
    return statistics.fmean(values) if None not in values else None


def _cell(value: float | None, measure: str) -> str:
    if value is None:
        return MISSING
    return f"{value:.3f}" if measure == "auroc" else PERCENT(value)
