"""Watch a folder: every new image is searched as it comes, one JSON line each, nothing lost when it is stopped.

What was done is noted in ``watched.jsonl`` beside the results, after these were written. Started again, it takes up
what has come meanwhile, and what changed.
"""

import json
import logging
import queue
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

from filelock import FileLock, Timeout

from anomalib_sofs.images import IMAGE_SUFFIXES, is_hidden
from anomalib_sofs.results.files import place_file, unwritable, write_json
from anomalib_sofs.results.folder import MARKER, is_results_folder
from anomalib_sofs.results.writer import Writer

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
        say: Gets one dictionary for each image.
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
        _search(inferencer, _Ledger(folder, out), arrived, say, stop or Event())
    finally:
        observer.stop()
        observer.join()
        lock.release()


def _search(inferencer: SofsInferencer, ledger: "_Ledger", arrived: "queue.Queue[Path]", say: Say, stop: Event) -> None:
    writer = Writer(ledger.out, ledger.folder)
    while not stop.is_set():
        try:
            file = arrived.get(timeout=PAUSE_S)
        except queue.Empty:
            continue
        if not ledger.wants(file):
            continue
        about = ledger.about(file)
        started = time.perf_counter()
        try:
            found = inferencer.predict(file)
        except (OSError, ValueError) as error:
            if not file.exists():
                continue
            if time.time() - file.stat().st_mtime < GRACE_S:  # somebody may be writing it
                time.sleep(PAUSE_S)
                arrived.put(file)
                continue
            aside = ledger.set_aside(file)
            say({"image": str(file), "error": str(error), "moved_to": str(aside)})
            continue
        stem = ledger.stem(file)
        writer.write(as_result(found, file, inferencer.support), stem)
        ledger.note(about | {"place": stem.as_posix()})
        say(
            {
                "image": str(file),
                "score": round(found.pred_score, 4),
                "regions": found.regions,
                "result": str(ledger.out / stem) + ".json",
                "seconds": round(time.perf_counter() - started, 3),
            }
        )


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
        if self._file.is_file():
            for line in self._file.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:  # the last line of a process that was killed
                    continue
                self._done[entry["image"]] = entry

    def about(self, file: Path) -> dict[str, Any]:
        """Return what tells whether a file has changed."""
        state = file.stat()
        return {"image": file.relative_to(self.folder).as_posix(), "bytes": state.st_size, "changed": state.st_mtime_ns}

    def wants(self, file: Path) -> bool:
        """Tell whether a path is an image that was not searched in this state."""
        own = self.out.resolve()
        try:
            if not file.is_file() or own in file.resolve().parents:
                return False
            inside = [Path(part) for part in file.relative_to(self.folder).parts]
            if file.suffix.lower() not in IMAGE_SUFFIXES or any(map(is_hidden, inside)):
                return False
            about = self.about(file)
        except FileNotFoundError:  # gone already
            return False
        noted = self._done.get(about["image"], {})
        return {name: noted.get(name) for name in about} != about

    def stem(self, file: Path) -> Path:
        """Return the place of the results of a file, with its suffix if another one has been there before it."""
        path = file.relative_to(self.folder)
        plain = path.with_suffix("")
        taken = {entry["place"] for image, entry in self._done.items() if image != path.as_posix()}
        return path if plain.as_posix() in taken else plain

    def note(self, about: dict[str, Any]) -> None:
        """Note that an image was searched.

        Raises:
            UnwritableError: If that cannot be written.
        """
        try:
            with self._file.open("a", encoding="utf-8") as ledger:
                ledger.write(json.dumps(about, ensure_ascii=False) + "\n")
        except OSError as error:
            raise unwritable(self.out, error) from error
        self._done[about["image"]] = about

    def set_aside(self, file: Path) -> Path:
        """Move a file that cannot be read out of the way."""
        place = self.out / ASIDE / file.relative_to(self.folder)
        number = 1
        while place.exists():
            number += 1
            place = place.with_name(f"{file.stem}_{number}{file.suffix}")
        place_file(file, place)
        file.unlink()
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
