"""Search a folder of images: windows of several images at a time, results written while others are judged."""

import logging
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Condition
from typing import Any, NamedTuple

from numpy.typing import NDArray

from anomalib_sofs.images import read_stored
from anomalib_sofs.model.normality.detector import Prediction as Found
from anomalib_sofs.progress import shown
from anomalib_sofs.query_files import check_queries, list_images, nothing_left, report
from anomalib_sofs.results.coco_file import CocoDraft, clear_drafts, coco_name, write_coco
from anomalib_sofs.results.finished import file_state, finished
from anomalib_sofs.results.folder import ResultsFolder
from anomalib_sofs.results.names import common_folder, result_stems
from anomalib_sofs.results.writer import Writer

from .bundle import bundle_hash
from .inferencer import Prediction, SofsInferencer, as_result
from .networks import WindowQueue

logger = logging.getLogger(__name__)

PREDICTIONS = "predictions"
AHEAD = 2
"""Images that are read ahead."""
PIXELS_AT_A_TIME = 2**25
"""Pixels of all images that are judged or wait to be written; a larger image has its turn alone."""


class Done(NamedTuple):
    """What a run has done."""

    folder: Path | str
    """Of the results; a URL where they are on another machine."""
    images: int
    """Images that have results."""
    before: int
    """How many of them an earlier run had finished, with this bundle and in this state."""
    skipped: list[tuple[Path, str]]
    """Images that could not be read, and why."""


def run(bundle: str | Path, images: Path, out: Path, *, workers: int | None = None, device: str = "CPU") -> Done:
    """Find in images what the support set of a bundle marks, and write what ``anomalib predict`` writes.

    Args:
        bundle: The bundle.
        images: An image or a folder of images.
        out: Folder for the results.
        workers: Windows that are judged at a time; ``None`` asks OpenVINO, which keeps all cores busy.
        device: As OpenVINO names it.

    Raises:
        OSError: If something does not exist or cannot be written; what was found before is kept.
        ValueError: If something cannot be read, or does not fit together.
        RuntimeError: If the bundle has no support set.
    """
    inferencer = SofsInferencer(bundle, device)
    support = inferencer.support
    checked = check_queries(list_images(images))
    report(checked)
    if not checked.images:
        raise ValueError(nothing_left(checked))
    if support.roi is not None:
        support.roi.check(map(str, checked.images))
    # with those that cannot be read: the others keep their places when these are repaired
    listed = [*checked.images, *(file for file, _ in checked.skipped)]
    stems, common = result_stems(listed), common_folder(listed)
    folder = ResultsFolder.reserve(out / PREDICTIONS, {str(file): stems[str(file)] for file in checked.images})
    try:
        clear_drafts(folder.path)
        writer = Writer(folder.path, common)
        draft = CocoDraft(folder.path)
        made_by = {"bundle": bundle_hash(Path(bundle))}
        sources = {file: file_state(file) | made_by for file in checked.images}
        left = []
        for file, source in sources.items():
            stem = stems[str(file)]
            entry = finished(folder.path, stem, str(file), source, coco_name(file, stem, common))
            if entry is None:
                left.append(file)
            else:
                draft.add(entry)

        def write(file: Path, found: Prediction) -> None:
            result = replace(as_result(found, file, support), source=sources[file])
            writer.write(result, stems[str(file)])
            folder.beat()

        try:
            if left:
                search(inferencer, left, write, workers)
        finally:
            write_coco(folder.path)
            folder.beat()
    finally:
        folder.release()
    return Done(folder.path, len(sources), len(sources) - len(left), checked.skipped)


def search(inferencer: SofsInferencer, files: Iterable[Path], write: Any, workers: int | None = None) -> None:
    """Find what is marked on image files, and hand over each with what was found, one at a time.

    Args:
        inferencer: The bundle with its support.
        files: The images.
        write: Called with a file and its prediction, in a thread of its own.
        workers: Windows that are judged at a time.
    """
    queue = inferencer.queue(workers)
    room = Room()
    with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as writing:
        written: deque[Future[None]] = deque()

        def done(file: Path, count: int, found: Found) -> None:
            future = writing.submit(lambda: write(file, inferencer.decided(found)))
            future.add_done_callback(lambda _: room.leave(count))
            written.append(future)

        try:
            for file, pixels in _read_ahead(list(files), reading):
                count = pixels.shape[1] * pixels.shape[2]
                room.enter(count, queue)
                while written and written[0].done():
                    written.popleft().result()  # a full disk ends the run
                inferencer.start(file, queue, partial(done, file, count), pixels)
        finally:
            if queue is not None:
                queue.finish()  # also when it ends early: OpenVINO's threads must not outlive the interpreter
        for future in written:
            future.result()


class Room:
    """Bounds how many pixels are in work at a time."""

    def __init__(self) -> None:
        self._taken = 0
        self._changed = Condition()

    def enter(self, pixels: int, queue: WindowQueue | None) -> None:
        """Wait until there is room for an image; raises what went wrong in the queue meanwhile."""
        with self._changed:
            while self._taken and self._taken + pixels > PIXELS_AT_A_TIME:
                self._changed.wait(timeout=1)
                if queue is not None:
                    queue.check()
            self._taken += pixels

    def leave(self, pixels: int) -> None:
        """Make room."""
        with self._changed:
            self._taken -= pixels
            self._changed.notify_all()


def _read_ahead(files: list[Path], pool: ThreadPoolExecutor) -> Iterable[tuple[Path, NDArray[Any]]]:
    waiting: deque[Future[NDArray[Any]]] = deque()
    left = iter(files)
    for file in shown(files, "Images", len(files), quiet=len(files) == 1):
        while len(waiting) < AHEAD and (following := next(left, None)) is not None:
            waiting.append(pool.submit(read_stored, following))
        yield file, waiting.popleft().result()
