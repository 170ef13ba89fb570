"""Results for people and for programs: Markdown, CSV, a plot, JSON."""

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .markdown import MISSING, PERCENT, origin, table
from .plot import draw
from .summary import GROUP, MEASURES, Record, Spread, summarise, value

COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {
    "miou": ("mIoU %", PERCENT),
    "fb_iou": ("FB-IoU %", PERCENT),
    "false_positives": ("false positives %", PERCENT),
    "false_area": ("false area %", lambda v: f"{100 * v:.2f}"),
    "image_auroc": ("image AUROC", "{:.3f}".format),
    "pixel_auroc": ("pixel AUROC", "{:.3f}".format),
    "aupro": ("AUPRO", "{:.3f}".format),
    "seconds_per_image": ("s / image", "{:.3f}".format),
    "backbone_ratio": ("x backbone", "{:.1f}".format),
}
TITLES = {"category": "category", "method": "method", "shot": "shots", "normal_shot": "normal shots"}
NOTES = {
    "fss": "Mean (least to most) over the seeds. False positives: share of the normal test images with any region "
    "found, and mean share of their pixels. Time: median of the query alone. x backbone: whole query of a 512 x 512 "
    "image, in passes of the bare default backbone over it.",
    "fad": "Support: the first normal training images by name. Raw scores, maps at the images' own size. Time: median "
    "of a query. x backbone: whole query of a 512 x 512 image, resizing included, in passes of the bare default "
    "backbone over it.",
}


def write(file: Path, task: str, provenance: Record, arguments: Mapping[str, Any], records: Sequence[Record]) -> str:
    """Write JSON, CSV and plot, each whole or not at all.

    Args:
        file: The JSON file; ``.csv`` and ``.png`` land beside it.
        task: ``"fss"`` or ``"fad"``.
        provenance: What the results depend on.
        arguments: The command line.
        records: The results.

    Returns:
        The Markdown.
    """
    seeds = sorted({record["seed"] for record in records})
    rows = summarise(task, records)
    content = {
        "task": task,
        **provenance,
        "seeds": seeds,
        "settings": _settings(arguments),
        "results": list(records),
        "summary": [_plain(row) for row in rows],
    }
    write_whole(file, (json.dumps(content, indent=1) + "\n").encode())
    write_whole(file.with_suffix(".csv"), _csv(task, records).encode())
    write_whole(file.with_suffix(".png"), draw(task, rows))
    return _markdown(task, provenance, seeds, rows, records)


def write_lines(
    file: Path, task: str, provenance: Record, arguments: Mapping[str, Any], records: Sequence[Record], lines: list[str]
) -> str:
    """Write the JSON file of a task that draws its own tables.

    Args:
        file: The JSON file.
        task: Its name.
        provenance: What the results depend on.
        arguments: The command line.
        records: The results.
        lines: The tables.

    Returns:
        The Markdown.
    """
    seeds = arguments.get("seeds") or [0]
    content = {"task": task, **provenance, "seeds": seeds, "settings": _settings(arguments), "results": list(records)}
    write_whole(file, (json.dumps(content, indent=1) + "\n").encode())
    return "\n".join([*origin(provenance, seeds), *lines]) + "\n"


def _settings(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was asked for, as plain data."""
    known = {name: found for name, found in arguments.items() if name not in {"task", "json", "seeds"}}
    return {name: str(v) if isinstance(v, Path) else v for name, v in known.items() if v is not None}


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Turn spreads into dictionaries, at any depth."""
    plain: dict[str, Any] = {}
    for name, entry in row.items():
        if isinstance(entry, Spread):
            plain[name] = entry._asdict()
        elif isinstance(entry, Mapping):
            plain[name] = _plain(entry)
        elif entry is not None:
            plain[name] = entry
    return plain


def _classes(records: Iterable[Record]) -> list[str]:
    return list(dict.fromkeys(name for record in records for name in record.get("iou", {})))


def _csv(task: str, records: Sequence[Record]) -> str:
    classes = _classes(records)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*GROUP[task], "seed", *MEASURES[task], *(f"iou_{name}" for name in classes), "error"])
    for record in records:
        numbers = [value(record, measure) for measure in MEASURES[task]]
        iou = [record.get("iou", {}).get(name) for name in classes]
        writer.writerow(
            [*(record[name] for name in GROUP[task]), record["seed"], *numbers, *iou, record.get("error", "")]
        )
    return text.getvalue()


def _cell(entry: Spread | None, form: Callable[[float], str]) -> str:
    if entry is None:
        return MISSING
    least, most = form(entry.least), form(entry.most)
    return form(entry.mean) if least == most else f"{form(entry.mean)} ({least} to {most})"


def _markdown(
    task: str,
    provenance: Record,
    seeds: Sequence[int],
    rows: Sequence[Record],
    records: Sequence[Record],
) -> str:
    measures = MEASURES[task]
    head = [*(TITLES[name] for name in GROUP[task]), *(COLUMNS[m][0] for m in measures)]
    lines = [
        *origin(provenance, seeds),
        *table(head, (_summary(task, row) for row in rows)),
        NOTES[task],
        "",
    ]
    if task == "fss":
        for category in dict.fromkeys(row["category"] for row in rows):
            lines += _class_table(category, records, rows)
    return "\n".join(lines) + "\n"


def _summary(task: str, row: Record) -> list[str]:
    measures = MEASURES[task]
    numbers = [_cell(row[measure], COLUMNS[measure][1]) for measure in measures]
    if row["error"]:
        numbers = [row["error"], *[MISSING] * (len(measures) - 1)]
    return [*(str(row[name]) for name in GROUP[task]), *numbers]


def _class_table(category: str, records: Sequence[Record], rows: Sequence[Record]) -> list[str]:
    """Draw IoU of each class for each seed, and its mean and spread."""
    records, rows = (
        [entry for entry in group if entry["category"] == category and entry.get("error") is None]
        for group in (records, rows)
    )
    classes = _classes(records)
    lines = []
    for row in rows:
        where = [str(row[name]) for name in GROUP["fss"][1:]]
        members = [record for record in records if [str(record[name]) for name in GROUP["fss"][1:]] == where]
        for record in members:
            numbers = [*record["iou"].values(), record["miou"], record["fb_iou"]]
            lines.append([*where, str(record["seed"]), *(PERCENT(number) for number in numbers)])
        if len(members) > 1:
            spreads = [*(row["iou"][name] for name in classes), row["miou"], row["fb_iou"]]
            lines.append([*where, "mean", *(_cell(entry, PERCENT) for entry in spreads)])
    head = [
        *(TITLES[name] for name in GROUP["fss"][1:]),
        "seed",
        *(f"{name} %" for name in classes),
        "mIoU %",
        "FB-IoU %",
    ]
    return [f"IoU of each class of {category}:", "", *table(head, lines)]
