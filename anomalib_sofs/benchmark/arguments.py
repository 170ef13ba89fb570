"""The command line: everything that can be wrong with it is said in one line, before any work."""

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import torch

from anomalib_sofs.model.backbone import DEFAULT_BACKBONE

PEERS = ("patchcore", "padim", "mhpatchcore", "anomalydino", "rad", "winclip", "foundad")
DEFAULT_PEERS = PEERS[:-1]
"""FoundAD trains for hours without a GPU: only where it is asked for."""
HEADS = ("relation", "paper", "patchcore", "padim")
ENGINES = ("torch", "openvino")
PRECISIONS = ("fp32", "bf16", "int8")
RUN, PAGE = "run", "page"


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


def _some_of(known: Sequence[str], what: str, *, least: int = 1) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        if least == 0 and text.strip().lower() in {"", "none"}:
            return []
        names = [name.lower() for name in _names(text)]
        unknown = [name for name in names if name not in known]
        if unknown:
            msg = f"unknown {what} {', '.join(map(repr, unknown))}; there are: {', '.join(known)}"
            raise argparse.ArgumentTypeError(msg)
        return names

    return parse


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


def _number(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        msg = f"expected a whole number of at least 1, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _device(text: str) -> str:
    try:
        torch.empty(0, device=text)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for the device
        msg = f"no device {text!r} here ({str(error).splitlines()[0]})"
        raise argparse.ArgumentTypeError(msg) from error
    return text


def _threads(text: str) -> list[int]:
    everything = str(os.cpu_count() or 1)
    return _numbers(1)(",".join(everything if name.lower() == "all" else name for name in _names(text)))


def _coreset(text: str) -> float:
    try:
        size = float(text)
    except ValueError:
        size = 0
    if not size > 0:
        msg = f"expected a share below 1 or a number of cells, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return size


def _probability(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < 1:
        msg = f"expected a number between 0 and 1, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return number


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; what is wrong with it ends the program with code 2."""
    parser = _Parser(prog="python -m anomalib_sofs.benchmark", description="Benchmarks that anyone can repeat.")
    tasks = parser.add_subparsers(dest="task", required=True, parser_class=_Parser)
    fss = tasks.add_parser("fss", help="few-shot segmentation by the fixed protocol, each category as novel")
    fad = tasks.add_parser("fad", help="few-shot anomaly detection beside anomalib's models on the same images")
    speed = tasks.add_parser(
        "speed", help="time and memory of a query and of encoding the support, beside the backbone"
    )
    corrections = tasks.add_parser("corrections", help="what is found after a user has corrected the surest mistakes")
    throughput = tasks.add_parser("throughput", help="images per second of anomalib-sofs run, and of the page")
    for task in (fss, fad, corrections, speed, throughput):
        task.add_argument("--json", type=Path, required=True, metavar="FILE", help="CSV, plot, pictures: beside it")
    _add_data(corrections)
    corrections.add_argument("--corrections", type=_numbers(1), default=[3, 10], metavar="3,10", help="beside none")
    corrections.add_argument("--seeds", type=_numbers(0), default=[0], metavar="0,1,2")
    for task in (fss, fad):
        _add_data(task)
        task.add_argument("--device", type=_device, default="cpu", metavar="cpu,cuda", help="torch's name of a device")
    _add_fss(fss)
    _add_backbone(fss, "do not load its weights: shows that everything runs, not how well")
    fad.add_argument("--shots", type=_numbers(1), default=[1, 2, 4, 8], metavar="1,2,4,8")
    fad.add_argument(
        "--draws", type=_number, default=1, help="draws of the support; draw 0 is the first images by name"
    )
    peers = _some_of(PEERS, "peer", least=0)
    all_but = "default: all but foundad, which trains for 2000 epochs; or none"
    fad.add_argument("--peers", type=peers, default=list(DEFAULT_PEERS), metavar=",".join(PEERS), help=all_but)
    _add_backbone(fad, "do not load its weights: shows that everything runs, not how well")
    _add_speed(speed)
    _add_throughput(throughput)
    return parser.parse_args(argv)


def _add_data(task: argparse.ArgumentParser) -> None:
    task.add_argument(
        "--root",
        type=Path,
        required=True,
        help="folder of categories, or one category, in any layout of FolderEpisodes: MVTec AD's, images/ beside "
        "masks/, COCO, LabelMe",
    )
    task.add_argument("--categories", type=_names, metavar="A,B", help="default: every one in the root")
    task.add_argument("--limit", type=_number, help="most queries per class, the first by name")


def _add_fss(fss: argparse.ArgumentParser) -> None:
    fss.add_argument(
        "--weights",
        type=_names,
        default=["default"],
        metavar="default,relation,paper,PATH",
        help="default: both packaged heads, rows 'sofs' and 'paper'; or one of them, or a file with one",
    )
    fss.add_argument("--shots", type=_numbers(1), default=[1], metavar="1,5")
    fss.add_argument("--normal_shots", type=_numbers(0), default=[0], metavar="0,4", help="normal images beside them")
    fss.add_argument("--threshold", type=_probability, default=0.5, help="cut of the maps; the protocol's is 0.5")
    fss.add_argument("--good", type=_number, metavar="N", help="another row: thresholds from N good training images")
    fss.add_argument(
        "--false-alarms", type=_probability, default=0.05, help="share of good images that may get a region"
    )
    fss.add_argument(
        "--witness", action="store_true", help="another row: all test images show what is usual (transductive)"
    )
    fss.add_argument("--seeds", type=_numbers(0), default=[0, 1, 2], metavar="0,1,2")


def _add_speed(speed: argparse.ArgumentParser) -> None:
    speed.add_argument("--sizes", type=_numbers(32), default=[256, 512], metavar="256,512", help="pixels a side")
    speed.add_argument("--shots", type=_numbers(1), default=[1], metavar="1,16", help="support images of each class")
    speed.add_argument("--crops", type=_number, default=1, help="marked places, a window each, on a support image")
    speed.add_argument("--classes", type=_numbers(1), default=[1], metavar="1,5", help="classes of the support set")
    speed.add_argument("--coreset", type=_coreset, help="of the paper head's background cells: a share or a number")
    _add_backbone(speed, "do not load its weights: times do not depend on them")
    all_but = "default: all but the paper's"
    speed.add_argument("--heads", type=_some_of(HEADS, "head"), metavar=",".join(HEADS), help=all_but)
    engines = _some_of(ENGINES, "engine")
    speed.add_argument("--engines", type=engines, default=list(ENGINES), metavar=",".join(ENGINES))
    _add_precisions(speed, "of OpenVINO; torch always computes in FP32")
    speed.add_argument("--threads", type=_threads, default=_threads("1,all"), metavar="1,all")
    _add_rounds(speed)


def _add_throughput(throughput: argparse.ArgumentParser) -> None:
    throughput.add_argument("--sizes", type=_numbers(32), default=[512], metavar="512,1024", help="pixels a side")
    ways = _some_of((RUN, PAGE), "way")
    what = "run: a bundle, one by one and by run; page: searches of the page, after corrections, too"
    throughput.add_argument("--ways", type=ways, default=[RUN], metavar=f"{RUN},{PAGE}", help=what)
    throughput.add_argument("--images", type=_number, default=60, help="rendered images of each size")
    throughput.add_argument("--workers", type=_number, metavar="N", help="as of run; default: what OpenVINO chooses")
    _add_precisions(throughput, "of the bundle")
    _add_rounds(throughput)


def _add_precisions(task: argparse.ArgumentParser, what: str) -> None:
    known, default = _some_of(PRECISIONS, "precision"), list(PRECISIONS)
    task.add_argument("--precisions", type=known, default=default, metavar=",".join(PRECISIONS), help=what)


def _add_rounds(task: argparse.ArgumentParser) -> None:
    task.add_argument("--rounds", type=_number, default=5, help="measurements behind each median")


def _add_backbone(task: argparse.ArgumentParser, without_weights: str) -> None:
    which = "any timm name; of models that bring no backbone of their own"
    task.add_argument("--backbone", default=DEFAULT_BACKBONE, metavar="NAME", help=which)
    task.add_argument("--random-weights", action="store_true", help=without_weights)


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
