"""Results for people and for programs: Markdown, CSV, a plot, JSON; no path of the machine in any of them."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anomalib_sofs.results.files import written_whole

from . import corrections, tables, throughput
from .plot import draw
from .summary import GROUP, Row, summarise

TABLES = {"corrections": corrections.markdown, "speed": tables.speed, "throughput": throughput.markdown}
"""Of what is no accuracy by category and method."""


def write(file: Path, task: str, provenance: Row, rows: Sequence[Row]) -> str:
    """Write JSON, CSV and, where accuracy is measured, a plot, each whole or not at all.

    Args:
        file: The JSON file; ``.csv`` and ``.png`` land beside it.
        task: Its name.
        provenance: What the results depend on.
        rows: The results.

    Returns:
        The Markdown.
    """
    content = {"task": task, **provenance, "rows": list(rows)}
    _write(file, (json.dumps(content, indent=1) + "\n").encode())
    _write(file.with_suffix(".csv"), _csv(rows).encode())
    if task not in GROUP:
        return TABLES[task](provenance, rows)
    summary = summarise(task, rows)
    _write(file.with_suffix(".png"), draw(task, summary))
    return tables.accuracy(task, provenance, summary, rows)


def _write(path: Path, content: bytes) -> None:
    with written_whole(path) as file:
        file.write(content)


def _csv(rows: Sequence[Row]) -> str:
    flat = [_flat(row) for row in rows]
    names = dict.fromkeys(name for row in flat for name in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Give every value of a dictionary in a row a column of its own: ``iou_scratch``."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        flat |= {f"{name}_{key}": v for key, v in value.items()} if isinstance(value, Mapping) else {name: value}
    return flat
