"""Time and memory of a query and of encoding its support, beside the bare backbone and anomalib's own models."""

import logging
import time
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from anomalib.models.components import AnomalibModule
from rich.progress import Progress
from torch import Tensor, nn

from anomalib_sofs.model import Sofs
from anomalib_sofs.model.backbone import Backbone
from anomalib_sofs.windows import continue_to

from . import openvino_engine, peak
from .arguments import BenchmarkError
from .machine import without_paths
from .subjects import Subject, build_ours, build_peer, query_image, subjects, support_set
from .timing import Query, alternate, bare_backbone, say

logger = logging.getLogger(__name__)


@dataclass
class Candidate:
    """One model in one engine, ready to run.

    Args:
        subject: What it is.
        engine: ``"torch"`` or ``"openvino"``.
        model: In torch, with its support.
        file: What a process of its own loads; ``None`` where it builds the model itself.
        learning: Seconds that anomalib's model took to learn.
        precision: In which it computes.
    """

    subject: Subject
    engine: str
    model: AnomalibModule
    file: Path | None
    learning: float
    precision: str = "fp32"

    def query(self, threads: int) -> Query:
        """Return what does everything from the image to the map."""
        if self.engine == "torch":
            return self.model
        assert self.file is not None  # noqa: S101 - it was exported
        return openvino_engine.compiled(self.file, threads)

    def encoding_seconds(self, threads: int) -> float:
        """Measure how long it takes to encode the support: a bundle by itself, all else in torch."""
        if not isinstance(self.model, Sofs):
            return self.learning
        support = support_set(self.subject)
        if self.file is not None and self.file.is_dir():
            return openvino_engine.encoding_seconds(self.file, support, threads)
        start = time.perf_counter()
        self.model.set_support(support)
        return time.perf_counter() - start


def run(arguments: Namespace, progress: Progress) -> list[dict[str, Any]]:
    """Run the benchmark.

    Args:
        arguments: See :func:`~anomalib_sofs.benchmark.arguments.parse`.
        progress: Where progress is shown.

    Returns:
        One row per engine, head, support set, size and number of threads; what does not run is named and left out.

    Raises:
        BenchmarkError: If the backbone cannot be had, or nothing runs.
    """
    threads = torch.get_num_threads()
    rows: list[dict[str, Any]] = []
    bare = _yardstick(arguments.backbone)
    wanted = subjects(arguments)
    try:
        for subject in progress.track(wanted, description="speed"):
            try:
                rows += measured(subject, bare, arguments, progress)
            except BenchmarkError:
                raise
            except Exception as error:  # what one model cannot do must not cost the results of the others
                logger.debug("%s failed", subject.title, exc_info=True)
                _leave_out(subject.title, error, progress)
    finally:
        torch.set_num_threads(threads)
    if not rows:
        msg = "Nothing could be measured, see above."
        raise BenchmarkError(msg)
    return rows


def _yardstick(name: str) -> Backbone:
    try:
        return bare_backbone(name)
    except ValueError as error:
        raise BenchmarkError(error) from error


def _leave_out(what: str, error: Exception, progress: Progress) -> None:
    reason = without_paths(" ".join(str(error).split()))[:300]
    say(progress, f"left out: {what} ({type(error).__name__}: {reason})")


def measured(subject: Subject, bare: Backbone, arguments: Namespace, progress: Progress) -> list[dict[str, Any]]:
    """Measure one model in every engine that it runs in.

    Args:
        subject: The model.
        bare: The bare backbone.
        arguments: The command line.
        progress: Where progress is shown.
    """
    torch.set_num_threads(max(arguments.threads))
    rows = []
    with TemporaryDirectory() as folder:
        for candidate in _candidates(subject, arguments, Path(folder), progress):
            encoding = {}
            for threads in arguments.threads:
                torch.set_num_threads(threads)
                encoding[threads] = candidate.encoding_seconds(threads)
            for size in arguments.sizes:
                memory = peak.measure(subject, candidate.engine, candidate.file, size, max(arguments.threads))
                for threads in arguments.threads:
                    row = _timed(candidate, bare, size, threads, arguments.rounds)
                    row |= {"encode_ms": 1000 * encoding[threads]} | memory
                    rows.append(row)
                    say(progress, _in_short(row))
    return rows


def _candidates(subject: Subject, arguments: Namespace, folder: Path, progress: Progress) -> Iterator[Candidate]:
    """Prepare a model for each engine and precision; anomalib's models run in torch only, bundles hold one head."""
    model: AnomalibModule
    engines = arguments.engines
    if not subject.ours:
        if "torch" in engines:
            model, learning = build_peer(subject)
            file = folder / "peer.pt"
            torch.save(nn.Sequential(model.pre_processor or nn.Identity(), model.model), file)
            yield Candidate(subject, "torch", model, file, learning)
        return
    model = build_ours(subject)
    model.set_support(support_set(subject))
    if "torch" in engines:
        yield Candidate(subject, "torch", model, None, 0.0)
    for precision in arguments.precisions if "openvino" in engines else []:
        if precision != "fp32" and subject.head != "relation":
            continue
        try:
            file = openvino_engine.export(model, folder, precision, support_set(subject))
        except Exception as error:  # the other rows stand
            logger.debug("export failed", exc_info=True)
            _leave_out(f"{subject.title} in OpenVINO, {precision}", error, progress)
        else:
            yield Candidate(subject, "openvino", model, file, 0.0, precision)


def _timed(candidate: Candidate, bare: Backbone, size: int, threads: int, rounds: int) -> dict[str, Any]:
    """Measure a query in alternation with the bare backbone over the same image."""
    torch.set_num_threads(threads)
    image = query_image(size)
    side = -(-size // bare.multiple) * bare.multiple
    padded = continue_to(image, side, side)

    def backbone(_: Tensor) -> object:
        return bare(padded)

    backbone_seconds, query_seconds = alternate(backbone, candidate.query(threads), image, rounds)
    subject = candidate.subject
    return {
        "engine": candidate.engine,
        "precision": candidate.precision,
        "head": subject.head,
        "backbone": subject.backbone,
        "size": size,
        "shots": subject.shots,
        "crops": subject.crops,
        "classes": subject.classes,
        "coreset": subject.coreset,
        "threads": threads,
        "query_ms": 1000 * query_seconds,
        "backbone_ms": 1000 * backbone_seconds,
        "ratio": query_seconds / backbone_seconds,
    }


def _in_short(row: dict[str, Any]) -> str:
    return (
        f"{row['head']} in {row['engine']} {row['precision']}, {row['size']} px, {row['shots']} shots, "
        f"{row['classes']} classes, {row['threads']} threads: {row['query_ms']:.0f} ms, {row['ratio']:.2f} x backbone, "
        f"{row['peak_mb']:.0f} MB"
    )
