"""The tables that a benchmark prints."""

from collections.abc import Callable, Sequence
from typing import Any

from .markdown import MISSING, PERCENT, origin, table
from .summary import GROUP, MEASURES, REPEAT, Row, Spread
from .tally import SIZES
from .titles import TITLES

COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {
    "miou": ("mIoU %", PERCENT),
    "fb_iou": ("FB-IoU %", PERCENT),
    "false_positives": ("false positives %", PERCENT),
    "false_area": ("false area %", lambda v: f"{100 * v:.2f}"),
    "image_auroc": ("image AUROC", "{:.3f}".format),
    "pixel_auroc": ("pixel AUROC", "{:.3f}".format),
    "aupro": ("AUPRO", "{:.3f}".format),
    "f1": ("F1", "{:.3f}".format),
    "f1_best": ("best F1", "{:.3f}".format),
    "good_called_defective": ("good called defective %", PERCENT),
    "seconds_per_image": ("s / image", "{:.3f}".format),
    "backbone_ratio": ("x backbone", "{:.1f}".format),
}
HEADINGS = {"normal_shots": "normal shots"}
NOTES = {
    "fss": "Mean (least to most) over the seeds. False positives: share of the normal test images with any region "
    "found, and mean share of their pixels. Time: median of the query alone. x backbone: whole query of a 512 x 512 "
    "image, in passes of the bare default backbone over it.",
    "fad": "Mean (least to most) over the draws of the support; draw 0 is the first normal images by name. AUROC, "
    "AUPRO and best F1 from raw scores, maps at the images' own size. F1 and the share of good test images that are "
    "called defective: ours at the threshold that it takes from the support; anomalib's models learn theirs from the "
    "test images, by default, so that their F1 is the best one. Time: median of a query. x backbone: whole query of a "
    "512 x 512 image, resizing included, in passes of the bare default backbone over it.",
    "speed": "Medians. Ratio: in passes of the bare backbone in torch over the same image, both in turn, in one "
    "process, with the same threads. Query: everything from the image to the map at its size. PatchCore and PaDiM "
    "resize every image to 256 x 256 and have learned from 50 normal ones (PatchCore: a random coreset). Peaks: above "
    "the loaded model, in a process of their own. OpenVINO in FP32: the graph that anomalib exports; in BF16 and INT8: "
    "a bundle, which encodes its support by itself.",
}
SPEED: dict[str, tuple[str, Callable[[Any], str]]] = {
    "engine": ("engine", str),
    "precision": ("precision", str),
    "head": ("head", str),
    "size": ("size", str),
    "shots": ("shots", str),
    "crops": ("crops", str),
    "classes": ("classes", str),
    "threads": ("threads", str),
    "query_ms": ("query ms", "{:.0f}".format),
    "backbone_ms": ("backbone ms", "{:.0f}".format),
    "ratio": ("ratio", "{:.2f}".format),
    "encode_ms": ("encode ms", "{:.0f}".format),
    "peak_mb": ("peak MB", "{:.0f}".format),
    "encode_peak_mb": ("encode peak MB", "{:.0f}".format),
}


def accuracy(task: str, provenance: Row, summary: Sequence[Row], rows: Sequence[Row]) -> str:
    """Draw the tables of ``fss`` or ``fad``: all measures, and the classes of each category.

    Args:
        task: ``"fss"`` or ``"fad"``.
        provenance: What the results depend on.
        summary: See :func:`~anomalib_sofs.benchmark.summary.summarise`.
        rows: The results.
    """
    head = [*(HEADINGS.get(name, name) for name in GROUP[task]), *(COLUMNS[m][0] for m in MEASURES[task])]
    lines = [*origin(provenance), *table(head, (_line(task, row) for row in summary)), NOTES[task], ""]
    if task == "fad":
        lines += _backbones(rows)
    if task == "fss":
        lines += _size_table(summary)
        for category in dict.fromkeys(row["category"] for row in summary):
            lines += _class_table(category, rows, summary)
    return "\n".join(lines) + "\n"


def speed(provenance: Row, rows: Sequence[Row]) -> str:
    """Draw the table of ``speed``."""
    lines = [
        [MISSING if row.get(name) is None else form(row[name]) for name, (_, form) in SPEED.items()] for row in rows
    ]
    head = [title for title, _ in SPEED.values()]
    names = ", ".join(dict.fromkeys(row["backbone"] for row in rows))
    return "\n".join([*origin(provenance), *table(head, lines), f"Backbone {names}. {NOTES['speed']}", ""]) + "\n"


def _keys(task: str, row: Row) -> list[str]:
    return [TITLES.get(str(row[name]), str(row[name])) if name == "method" else str(row[name]) for name in GROUP[task]]


def _cell(entry: Spread | None, form: Callable[[float], str]) -> str:
    if entry is None:
        return MISSING
    least, most = form(entry.least), form(entry.most)
    return form(entry.mean) if least == most else f"{form(entry.mean)} ({least} to {most})"


def _line(task: str, row: Row) -> list[str]:
    measures = MEASURES[task]
    numbers = [_cell(row[measure], COLUMNS[measure][1]) for measure in measures]
    if row["error"]:
        numbers = [row["error"], *[MISSING] * (len(measures) - 1)]
    return [*_keys(task, row), *numbers]


def _backbones(rows: Sequence[Row]) -> list[str]:
    """Say which models read which backbone."""
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        found.setdefault(row["backbone"], {})[TITLES[row["method"]]] = None
    return ["; ".join(f"{', '.join(models)}: {backbone}" for backbone, models in found.items()) + ".", ""]


def _size_table(summary: Sequence[Row]) -> list[str]:
    """Draw IoU of the queries by the size of their defects."""
    head = [*(HEADINGS.get(name, name) for name in GROUP["fss"]), *(f"{size} %" for size in SIZES)]
    lines = [
        [*_keys("fss", row), *(_cell(row["iou_by_size"][size], PERCENT) for size in SIZES)]
        for row in summary
        if not row["error"]
    ]
    return ["IoU in % by the share of the image that is defect:", "", *table(head, lines)]


def _class_table(category: str, rows: Sequence[Row], summary: Sequence[Row]) -> list[str]:
    """Draw IoU of each class for each seed, and its mean and spread."""
    rows, summary = (
        [entry for entry in group if entry["category"] == category and entry.get("error") is None]
        for group in (rows, summary)
    )
    classes = list(dict.fromkeys(name for row in rows for name in row["iou"]))
    lines = []
    for row in summary:
        where = _keys("fss", row)[1:]
        members = [member for member in rows if _keys("fss", member)[1:] == where]
        for member in members:
            numbers = [*member["iou"].values(), member["miou"], member["fb_iou"]]
            lines.append([*where, str(member[REPEAT["fss"]]), *(PERCENT(number) for number in numbers)])
        if len(members) > 1:
            spreads = [*(row["iou"][name] for name in classes), row["miou"], row["fb_iou"]]
            lines.append([*where, "mean", *(_cell(entry, PERCENT) for entry in spreads)])
    keys = [HEADINGS.get(name, name) for name in GROUP["fss"][1:]]
    head = [*keys, "seed", *(f"{name} %" for name in classes), "mIoU %", "FB-IoU %"]
    return [f"IoU of each class of {category}:", "", *table(head, lines)]
