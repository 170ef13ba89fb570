"""Watch a folder: every new image is searched as it comes, one JSON line each, nothing lost when it is stopped.

What was done is noted in ``watched.jsonl`` beside the results, after these were written. Started again, it takes up
what has come meanwhile, and what changed.
"""

import json
import logging
import queue
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

from filelock import FileLock, Timeout

from anomalib_sofs.images import IMAGE_SUFFIXES, is_hidden
from anomalib_sofs.results.files import UnwritableError, place_file, unwritable, write_json
from anomalib_sofs.results.finished import file_state
from anomalib_sofs.results.folder import MARKER, is_results_folder
from anomalib_sofs.results.writer import Writer

from .bundle import bundle_hash
from .inferencer import SofsInferencer, as_result

logger = logging.getLogger(__name__)

LEDGER = "watched.jsonl"
ASIDE = "unreadable"
"""Folder beside the results for files that are no readable images."""
LOCK = ".watched.lock"
GRACE_S = 5.0
"""A file that cannot be read may still be written until it has not changed for so long."""
PAUSE_S = 0.2

Say = Callable[[dict[str, Any]], None]


def watch(
    bundle: str | Path, folder: Path, out: Path, say: Say, *, device: str = "CPU", stop: Event | None = None
) -> None:
    """Search the images of a folder, and those that come, until it is stopped.

    Args:
        bundle: The bundle.
        folder: The folder, with all folders in it.
        out: Folder for the results: masks, maps, JSON and LabelMe files, as ``anomalib-sofs run`` writes them.
        say: Gets one dictionary for each image, before it is noted that the image is done: twice rather than never.
        device: As OpenVINO names it.
        stop: Ends it after the image at hand.

    Raises:
        OSError: If something does not exist or cannot be written.
        ValueError: If the bundle cannot be used, or another process writes there.
        RuntimeError: If watchdog is not installed, or the bundle has no support set.
    """
    try:
        from watchdog.observers import Observer  # noqa: PLC0415 - an extra
    except ImportError as error:
        msg = "Watching a folder needs the package watchdog: pip install 'anomalib-sofs[watch]'."
        raise RuntimeError(msg) from error
    if not folder.is_dir():
        msg = f"{folder} is no folder. FOLDER is where new images come."
        raise FileNotFoundError(msg)
    inferencer = SofsInferencer(bundle, device)
    _ = inferencer.support  # says so if there is none
    made_by = bundle_hash(Path(bundle))
    arrived: queue.Queue[Path] = queue.Queue()
    observer = Observer()
    observer.schedule(_handler(arrived), str(folder), recursive=True)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / LOCK)
        lock.acquire(timeout=0)
    except Timeout as error:
        msg = f"Another process watches a folder for {out}. Choose another folder for the results."
        raise ValueError(msg) from error
    except OSError as error:
        raise unwritable(out, error) from error
    # before the folder is listed: what comes in between is seen twice, not never
    observer.start()
    try:
        for file in sorted(folder.rglob("*")):
            arrived.put(file)
        _search(inferencer, made_by, _Ledger(folder, out), arrived, say, stop or Event())
    finally:
        observer.stop()
        observer.join()
        lock.release()


def _search(
    inferencer: SofsInferencer, made_by: str, ledger: "_Ledger", arrived: "queue.Queue[Path]", say: Say, stop: Event
) -> None:
    writer = Writer(ledger.out, ledger.folder, rank=None)
    while not stop.is_set():
        try:
            file = arrived.get(timeout=PAUSE_S)
        except queue.Empty:
            continue
        if not ledger.wants(file):
            continue
        started = time.perf_counter()
        try:
            state = file_state(file)
            found = inferencer.predict(file)
        except (OSError, ValueError) as error:
            if not file.exists():
                continue
            if time.time() - file.stat().st_mtime < GRACE_S:  # somebody may be writing it
                time.sleep(PAUSE_S)
                arrived.put(file)
                continue
            aside = ledger.place_aside(file)
            place_file(file, aside)
            say({"image": str(file), "error": str(error), "moved_to": str(aside)})
            file.unlink()
            continue
        stem = ledger.stem(file)
        source = {**state, "bundle": made_by}
        try:
            writer.write(replace(as_result(found, file, inferencer.support), source=source), stem)
        except UnwritableError:
            if file.exists():
                raise
            say({"image": str(file), "error": f"{file} was taken away before its results were written."})
            continue
        say(
            {
                "image": str(file),
                "score": round(found.pred_score, 4),
                "regions": found.regions,
                "result": str(ledger.out / stem) + ".json",
                "seconds": round(time.perf_counter() - started, 3),
            }
        )
        ledger.note({"image": ledger.name(file), **state, "place": stem.as_posix()})


class _Ledger:
    """Which images were searched, in which state.

    Args:
        folder: The folder that is watched.
        out: Folder for the results.
    """

    def __init__(self, folder: Path, out: Path) -> None:
        self.folder, self.out = folder, out
        self._file = out / LEDGER
        if not is_results_folder(out):
            write_json({"results": {}}, out / MARKER)  # whoever looks for images leaves it out
        self._done: dict[str, dict[str, Any]] = {}
        self._taken: dict[str, str] = {}  # image by place
        if self._file.is_file():
            content = self._file.read_text(encoding="utf-8")
            for line in content.splitlines():
                with suppress(ValueError, TypeError, KeyError):  # half a line: of a process killed, or a full disk
                    self._remember(json.loads(line))
            if content and not content.endswith("\n"):
                self._append("\n")

    def name(self, file: Path) -> str:
        """Return the name of a file in the folder."""
        return file.relative_to(self.folder).as_posix()

    def wants(self, file: Path) -> bool:
        """Tell whether a path is an image that was not searched in this state."""
        own = self.out.resolve()
        try:
            if not file.is_file() or own in file.resolve().parents:
                return False
            inside = [Path(part) for part in file.relative_to(self.folder).parts]
            if file.suffix.lower() not in IMAGE_SUFFIXES or any(map(is_hidden, inside)):
                return False
            state = file_state(file)
        except FileNotFoundError:  # gone already
            return False
        return not state.items() <= self._done.get(self.name(file), {}).items()

    def stem(self, file: Path) -> Path:
        """Return the place of the results of a file, with its suffix if another one has been there before it."""
        path = file.relative_to(self.folder)
        plain = path.with_suffix("")
        own = path.as_posix()
        return path if self._taken.get(plain.as_posix(), own) != own else plain

    def note(self, about: dict[str, Any]) -> None:
        """Note that an image was searched.

        Raises:
            UnwritableError: If that cannot be written.
        """
        self._append(json.dumps(about, ensure_ascii=False) + "\n")
        self._remember(about)

    def _append(self, text: str) -> None:
        try:
            with self._file.open("a", encoding="utf-8") as ledger:
                ledger.write(text)
        except OSError as error:
            raise unwritable(self.out, error) from error

    def _remember(self, entry: dict[str, Any]) -> None:
        self._done[entry["image"]] = entry
        self._taken[entry["place"]] = entry["image"]

    def place_aside(self, file: Path) -> Path:
        """Return a free place for a file that cannot be read."""
        place = self.out / ASIDE / file.relative_to(self.folder)
        number = 1
        while place.exists() and not place.samefile(file):
            number += 1
            place = place.with_name(f"{file.stem}_{number}{file.suffix}")
        return place


def _handler(arrived: "queue.Queue[Path]") -> Any:
    """Tell of files that are written whole: closed after writing, or renamed."""
    from watchdog.events import FileSystemEventHandler  # noqa: PLC0415 - an extra

    class Handler(FileSystemEventHandler):
        def on_closed(self, event: Any) -> None:
            arrived.put(Path(event.src_path))

        def on_moved(self, event: Any) -> None:
            path = Path(event.dest_path)
            for file in [path, *path.rglob("*")] if path.is_dir() else [path]:
                arrived.put(file)

        def on_created(self, event: Any) -> None:
            # a hard link is never closed, and a folder may come with files in it; systems without inotify tell no more
            path = Path(event.src_path)
            for file in path.rglob("*") if path.is_dir() else [path]:
                arrived.put(file)

    return Handler()
