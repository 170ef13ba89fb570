"""`python -m anomalib_sofs.benchmark fss|fad|corrections|speed|throughput`."""

import logging
import os
import sys
import warnings
from collections.abc import Sequence

PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Threads that wait give their core away: spinning ones are many times slower beside another program."""

if "OMP_WAIT_POLICY" not in os.environ and "torch" not in sys.modules:
    os.environ.update(PASSIVE)  # read when torch is loaded, once
WAITS = os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE"
"""Whether it was set in time; otherwise the lines above the tables say so."""

from rich.console import Console  # noqa: E402
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn  # noqa: E402

from . import corrections, fad, fss, speed, throughput  # noqa: E402
from .arguments import BenchmarkError, check_writable, fail, parse  # noqa: E402
from .machine import provenance  # noqa: E402
from .report import write  # noqa: E402

TASKS = {"fss": fss, "fad": fad, "corrections": corrections, "speed": speed, "throughput": throughput}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a benchmark; results go to standard output and beside the JSON file, progress to standard error.

    Args:
        argv: The command line without the program's name; ``None`` takes the process's own.

    Returns:
        The exit code; a wrong request raises ``SystemExit(2)`` after one line on standard error.
    """
    arguments = parse(argv)
    warnings.filterwarnings("ignore")
    logging.disable(logging.INFO)  # Lightning talks about itself before every run
    for name in ("lightning.pytorch", "anomalib", "timm", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault(*next(iter(PASSIVE.items())))  # for child processes
    shown = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    record = provenance(arguments, waits=WAITS)  # now: files may change while it runs
    try:
        check_writable(arguments.json)
        with Progress(*shown, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
            rows = TASKS[arguments.task].run(arguments, progress)
    except BenchmarkError as error:
        fail(error)
    finally:
        logging.disable(logging.NOTSET)
    sys.stdout.write(write(arguments.json, arguments.task, record, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
