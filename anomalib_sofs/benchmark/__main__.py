"""`python -m anomalib_sofs.benchmark fss|fad`."""

import logging
import sys
import warnings
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from . import fad, fss
from .arguments import BenchmarkError, check_writable, fail, parse
from .machine import provenance
from .report import write


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
            task = fss if arguments.task == "fss" else fad
            records = task.run(arguments, progress)
    except BenchmarkError as error:
        fail(error)
    sys.stdout.write(write(arguments.json, arguments.task, record, vars(arguments), records))
    return 0


if __name__ == "__main__":
    sys.exit(main())
