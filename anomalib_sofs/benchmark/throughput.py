"""Images per second of a bundle, as `anomalib-sofs run` does it and one after the other, and of the page's searches."""

import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from PIL import Image
from rich.progress import Progress

from anomalib_sofs.model.backbone import DEFAULT_BACKBONE
from anomalib_sofs.results.writer import Writer
from anomalib_sofs.runtime import Prediction, SofsInferencer
from anomalib_sofs.runtime.inferencer import as_result
from anomalib_sofs.runtime.run import search

from . import page
from .arguments import PAGE, RUN, BenchmarkError
from .machine import without_paths
from .markdown import MISSING, origin, table
from .openvino_engine import bundle, pixels
from .subjects import Subject, build_ours, query_image, support_set
from .summary import Row
from .timing import say

Write = Callable[[Path, Prediction], None]

ONE_BY_ONE = "one by one"
HEAD = ("way", "precision", "size", "images", "workers", "images per second", "seconds", "until the first", "CPU s")
NOTE = (
    "Medians, both ways of a bundle in turn in one process. From the file to the files of results; the networks are "
    "loaded. One by one: each image is read, searched by all cores and written before the next one is read. The page: "
    "from the decision to the last image, what is marked learned anew; its first search loads the networks, too."
)


def run(arguments: Namespace, progress: Progress) -> list[Row]:
    """Measure what finds one marked defect on rendered images: a bundle, the page, or both.

    Args:
        arguments: See :func:`~anomalib_sofs.benchmark.arguments.parse`.
        progress: Where progress is shown.

    Returns:
        Two rows per precision and size of a bundle; a precision that this processor has not is named and left out.
        Three rows per size of the page.

    Raises:
        BenchmarkError: If nothing runs.
    """
    rows: list[Row] = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        if RUN in arguments.ways:
            rows += _bundles(folder, arguments, progress)
        if PAGE in arguments.ways:
            for size in progress.track(arguments.sizes, description="the page"):
                place = folder / f"page_{size}"
                files = _write_images(place / "images", size, arguments.images)
                for row in page.measured(place, files, arguments.rounds):
                    rows.append({"precision": "fp32", "size": size, "images": len(files), **row})
                    say(progress, f"{row['way']}, {size} px: {row['seconds']:.1f} s, {row['cpu_seconds']:.1f} CPU s")
    if not rows:
        msg = "Nothing could be measured, see above."
        raise BenchmarkError(msg)
    return rows


def _bundles(folder: Path, arguments: Namespace, progress: Progress) -> list[Row]:
    subject = Subject("relation", DEFAULT_BACKBONE)
    support, model = support_set(subject), build_ours(subject)
    model.set_support(support)
    rows: list[Row] = []
    images = {size: _write_images(folder / f"{size}", size, arguments.images) for size in arguments.sizes}
    for precision in progress.track(arguments.precisions, description="throughput"):
        try:
            inferencer = SofsInferencer(bundle(model, folder, precision, support))
        except ValueError as error:
            say(progress, f"left out: {precision} ({without_paths(str(error))})")
            continue
        for size, files in images.items():
            for row in _measured(inferencer, files, arguments.workers, arguments.rounds):
                rows.append({"precision": precision, "size": size, "images": len(files), **row})
                say(progress, f"{row['way']}, {precision}, {size} px: {row['images_per_second']:.2f} a second")
    return rows


def _write_images(folder: Path, size: int, count: int) -> list[Path]:
    folder.mkdir(parents=True)
    files = [folder / f"part_{number}.png" for number in range(count)]
    for number, file in enumerate(files):
        Image.fromarray(pixels(query_image(size)[0].roll(7 * number, dims=-1))).save(file)
    return files


def _measured(inferencer: SofsInferencer, files: Sequence[Path], workers: int | None, rounds: int) -> list[Row]:
    def one_by_one(files: Sequence[Path], write: Write) -> None:
        for file in files:
            write(file, inferencer.predict(file))

    def by_run(files: Sequence[Path], write: Write) -> None:
        search(inferencer, files, write, workers)

    ways = {ONE_BY_ONE: one_by_one, "run": by_run}
    for way in ways.values():
        _seconds(way, files[:1], inferencer)  # compiles the networks
    pairs = [[_seconds(way, files, inferencer) for way in ways.values()] for _ in range(rounds)]
    return [
        {"way": name, "workers": workers if name == "run" else 1, "images_per_second": len(files) / median(times)}
        for name, times in zip(ways, zip(*pairs, strict=True), strict=True)
    ]


def _seconds(way: Callable[[Sequence[Path], Write], None], files: Sequence[Path], inferencer: SofsInferencer) -> float:
    with TemporaryDirectory() as folder:
        writer = Writer(Path(folder), None)

        def write(file: Path, found: Prediction) -> None:
            writer.write(as_result(found, file, inferencer.support), Path(file.stem))

        start = time.perf_counter()
        way(files, write)
        return time.perf_counter() - start


def markdown(provenance: Row, rows: Sequence[Row]) -> str:
    """Draw the table."""
    lines = [
        [
            *(row[name] for name in ("way", "precision", "size", "images")),
            row["workers"] or "OpenVINO's choice",
            f"{row['images_per_second']:.2f}",
            *(f"{row[name]:.1f}" if name in row else MISSING for name in ("seconds", "first_seconds", "cpu_seconds")),
        ]
        for row in rows
    ]
    return "\n".join([*origin(provenance), *table(HEAD, lines), NOTE, ""]) + "\n"
