"""The metrics of several classes, for people and for programs."""

import json
import os
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .class_confusion import ClassResults

FILE = "classes.json"


def print_results(results: ClassResults, console: Console) -> None:
    """Print the confusion matrix: true classes in rows, found ones in columns, then the row's IoU."""
    table = Table(title="Pixels: true class by found class")
    table.add_column("truth")
    for name in results.found:
        table.add_column(name, justify="right")
    table.add_column("IoU", justify="right")
    for truth, row in zip(results.truth, results.pixels, strict=True):
        iou = f"{results.iou[truth]:.4f}" if truth in results.iou else ""
        table.add_row(truth, *map(str, row), iou)
    console.print(table)


def write_results(results: ClassResults, folder: Path) -> Path:
    """Write ``classes.json``: ``iou`` by class, and ``pixels`` in the order of ``truth`` (rows) and ``found``.

    The file is there whole or not at all; an older one is kept until then.
    """
    file = folder / FILE
    folder.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f"{FILE}.{os.getpid()}.part")
    try:
        aside.write_text(json.dumps(results._asdict()) + "\n", encoding="utf-8")
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)
    return file
