"""The metrics of several classes, for people and for programs."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from anomalib_sofs.results.files import write_json

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
    write_json(results._asdict(), file)
    return file
