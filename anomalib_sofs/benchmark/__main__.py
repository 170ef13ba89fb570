"""`python -m anomalib_sofs.benchmark TASK`."""

import logging
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from . import coreset, fad, fss, image_score, memory
from .arguments import BenchmarkError, check_writable, fail, parse
from .machine import provenance
from .report import write, write_lines

DRAWN: dict[str, ModuleType] = {"coreset": coreset, "image_score": image_score, "memory": memory}
"""Tasks that draw their own tables."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a benchmark; results go to standard output and beside the JSON file, progress to standard error."""
    arguments = parse(argv)
    warnings.filterwarnings("ignore")
    logging.disable(logging.INFO)  # Lightning talks about itself before every run
    for name in ("lightning.pytorch", "anomalib", "timm", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
    shown = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    record = provenance()  # now: files may change while it runs
    try:
        check_writable(arguments.json)
        with Progress(*shown, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
            task = DRAWN.get(arguments.task) or (fss if arguments.task == "fss" else fad)
            records = task.run(arguments, progress)
    except BenchmarkError as error:
        fail(error)
    common = arguments.json, arguments.task, record, vars(arguments), records
    drawn = arguments.task in DRAWN
    sys.stdout.write(write_lines(*common, DRAWN[arguments.task].tables(records)) if drawn else write(*common))
    return 0


if __name__ == "__main__":
    sys.exit(main())
