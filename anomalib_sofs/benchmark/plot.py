"""Accuracy against time per image."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .titles import TITLES

ACCURACY = {"fss": ("miou", "mIoU"), "fad": ("image_auroc", "image AUROC")}
MARKERS = "osD^vP*X"


def draw(task: str, rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Plot one panel per category, one line per method over its numbers of shots; bars span the seeds or draws.

    Args:
        task: ``"fss"`` or ``"fad"``.
        rows: See :func:`~anomalib_sofs.benchmark.summary.summarise`.

    Returns:
        A PNG file.
    """
    measure, title = ACCURACY[task]
    categories = list(dict.fromkeys(row["category"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    figure = Figure(figsize=(5 * len(categories), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, category in zip(figure.subplots(1, len(categories), squeeze=False)[0], categories, strict=True):
        for index, method in enumerate(methods):
            shown = [row for row in rows if (row["category"], row["method"]) == (category, method) and row[measure]]
            if not shown:
                continue
            times = [row["seconds_per_image"].mean for row in shown]
            values = [row[measure] for row in shown]
            bars = [[v.mean - v.least for v in values], [v.most - v.mean for v in values]]
            means = [v.mean for v in values]
            axes.errorbar(
                times, means, bars, marker=MARKERS[index % len(MARKERS)], label=TITLES.get(method, method), capsize=3
            )
            for row, time, mean in zip(shown, times, means, strict=True):
                normal = f" + {row['normal_shots']} normal" if row.get("normal_shots") else ""
                shots = f"{row['shots']} shot{normal}"
                axes.annotate(shots, (time, mean), xytext=(5, 4), textcoords="offset points", fontsize=7)
        axes.set(title=category, xlabel="seconds per image (median)", ylabel=title, xscale="log", ylim=(0, 1))
        axes.margins(x=0.2)
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
