"""The command line: everything that can be wrong with it is said in one line, before any work."""

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

PEERS = ("patchcore", "padim", "anomalydino", "winclip")


class BenchmarkError(Exception):
    """Something about the request is wrong; the message says what, where, and what to do."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        fail(f"{message} (see: {self.prog} --help)")


def fail(message: object) -> NoReturn:
    """Print one line and exit with code 2."""
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr)  # noqa: T201
    sys.exit(2)


def _names(text: str) -> list[str]:
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        msg = f"expected names separated by commas, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return names


def _peers(text: str) -> list[str]:
    if text.strip().lower() in {"", "none"}:
        return []
    names = [name.lower() for name in _names(text)]
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        msg = f"unknown peer {', '.join(map(repr, unknown))}; there are: {', '.join(PEERS)}"
        raise argparse.ArgumentTypeError(msg)
    return names


def _numbers(least: int) -> Callable[[str], list[int]]:
    def parse(text: str) -> list[int]:
        try:
            numbers = [int(name) for name in _names(text)]
        except ValueError:
            numbers = []
        if not numbers or min(numbers) < least:
            msg = f"expected whole numbers of at least {least} separated by commas, got {text!r}"
            raise argparse.ArgumentTypeError(msg)
        return list(dict.fromkeys(numbers))

    return parse


def _sizes(text: str) -> list[float]:
    try:
        sizes = [float(name) for name in _names(text)]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) <= 0:
        msg = f"expected shares below 1 or numbers of cells separated by commas, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return sizes


def _probability(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < 1:
        msg = f"expected a number between 0 and 1, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return number


def _limit(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        msg = f"expected a whole number of at least 1, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; what is wrong with it ends the program with code 2."""
    parser = _Parser(prog="python -m anomalib_sofs.benchmark", description=__doc__)
    tasks = parser.add_subparsers(dest="task", required=True, parser_class=_Parser)
    fss = tasks.add_parser("fss", help="few-shot segmentation by the fixed protocol, each category as novel")
    fad = tasks.add_parser("fad", help="few-shot anomaly detection beside anomalib's models on the same images")
    image_score = tasks.add_parser("image_score", help="ways to make a map the score of an image, by image AUROC")
    coreset = tasks.add_parser("coreset", help="what a coreset of the background cells costs the abnormal prior")
    for task in (fss, fad, image_score, coreset):
        task.add_argument("--root", type=Path, required=True, help="folder of categories in MVTec AD's layout")
        task.add_argument("--categories", type=_names, required=True, metavar="A,B")
        task.add_argument("--limit", type=_limit, help="most queries per class, the first by name")
        task.add_argument("--json", type=Path, required=True, metavar="FILE", help="CSV, plot, pictures: beside it")
    for task in (fss, image_score):
        task.add_argument("--weights", default="default", metavar="default|PATH", help="trained head")
    fss.add_argument("--shots", type=_numbers(1), default=[1], metavar="1,5")
    fss.add_argument("--normal_shots", type=_numbers(0), default=[0], metavar="0,4", help="normal images beside them")
    fss.add_argument(
        "--windows",
        type=_limit,
        metavar="SIDE",
        help="where a category has no normal images, windows of this many pixels of its background stand for them",
    )
    fss.add_argument("--threshold", type=_probability, default=0.5, help="cut of the maps; the protocol's is 0.5")
    fss.add_argument("--seeds", type=_numbers(0), default=[0, 1, 2], metavar="0,1,2")
    image_score.add_argument("--surfaces", type=Path, metavar="FOLDER", help="render held-out surfaces there, too")
    fad.add_argument("--shots", type=_numbers(1), default=[1, 2, 4, 8], metavar="1,2,4,8")
    fad.add_argument("--peers", type=_peers, default=list(PEERS), metavar=",".join(PEERS), help="or none")
    coreset.add_argument("--shots", type=_numbers(1), default=[1], metavar="1,4")
    coreset.add_argument("--sizes", type=_sizes, default=[0.1, 0.01], metavar="0.1,1000", help="share or number")
    memory = tasks.add_parser("memory", help="peak memory of support sets of many crops")
    memory.add_argument("--crops", type=_numbers(1), default=[1, 4, 16, 64], metavar="1,4,16,64")
    memory.add_argument("--json", type=Path, required=True, metavar="FILE")
    return parser.parse_args(argv)


def check_writable(path: Path) -> None:
    """Make sure that a file can be written, before hours of work are spent on its content.

    Raises:
        BenchmarkError: If it cannot.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = path.with_name(f".{path.name}.{os.getpid()}")
        probe.touch()
        probe.unlink()
    except OSError as error:
        msg = f"--json {path} cannot be written: {error.strerror or error}. Choose another file."
        raise BenchmarkError(msg) from error
    if path.is_dir():
        msg = f"--json {path} is a folder. Name a file."
        raise BenchmarkError(msg)
