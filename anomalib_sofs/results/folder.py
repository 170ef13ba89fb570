"""A folder of results belongs to one run at a time, and nothing that lies in it is lost.

A run makes ``predictions`` itself, or ``predictions_2``, ... where there is one already. It takes over an older folder
only if it makes everything in there anew: no other run writes there (a lock that the system frees when a process
ends, however it ends), every image of the older run is among its own and goes to the same place, and nobody has
changed a file since, such as a LabelMe file that was corrected.
"""

import itertools
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from .files import PART, UnwritableError, unwritable, write_json

MARKER = "anomalib_sofs.json"
"""Lies in each folder of results: which image went where. Whoever looks for images leaves such folders out."""
LOCK = ".anomalib_sofs.lock"
LABELME = "labelme"
"""Folder of the LabelMe files and their images."""
DRAFTS = ".coco_drafts"
"""Folder of what goes into ``coco.json`` when the run ends."""


class ResultsFolder:
    """A folder of results that belongs to this run until it is released.

    Args:
        path: The folder.
        lock: Held as long as the run writes.
        stems: Place of each image's results, see :func:`.names.result_stems`.
    """

    def __init__(self, path: Path, lock: FileLock, stems: Mapping[str, Path]) -> None:
        self.path = path
        self.stems = stems
        self._lock = lock

    @classmethod
    def reserve(cls, first: Path, stems: Mapping[str, Path]) -> "ResultsFolder":
        """Find or make a folder for a run's results.

        Args:
            first: The first choice; ``first_2``, ``first_3``, ... are the others.
            stems: Place of each image's results; empty where they are not known before.

        Raises:
            UnwritableError: If no folder can be made.
        """
        try:
            for number in itertools.count(1):
                path = first if number == 1 else first.with_name(f"{first.name}_{number}")
                lock = _made(path) or _taken_over(path, stems)
                if lock is not None:
                    folder = cls(path, lock, stems)
                    folder.mark()
                    return folder
        except UnwritableError:
            raise
        except OSError as error:
            raise unwritable(first, error) from error
        raise AssertionError

    def mark(self) -> None:
        """Write down which images the run is about."""
        write_json({"results": {image: stem.as_posix() for image, stem in self.stems.items()}}, self.path / MARKER)

    def beat(self) -> None:
        """Tell later runs that what lies here now is ours: whatever is newer was changed by somebody."""
        (self.path / MARKER).touch()

    def release(self) -> None:
        """Give the folder free for the next run; more than once does no harm."""
        self._lock.release()


def is_results_folder(folder: Path) -> bool:
    """Tell whether a folder holds results of ours."""
    return (folder / MARKER).is_file()


def mark_new_folder(folder: Path) -> None:
    """Make a folder for pictures and mark it as results, unless it is there already and may hold anything.

    Raises:
        UnwritableError: If it cannot be made.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    except FileExistsError:
        return
    except OSError as error:
        raise unwritable(folder, error) from error
    write_json({"results": {}}, folder / MARKER)


def _made(path: Path) -> FileLock | None:
    """Make the folder and lock it; only one of several processes succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir()
    except FileExistsError:
        return None
    lock = lock_of(path)
    with suppress(NotImplementedError):  # a network share without locks: there, no folder is ever taken over
        lock.acquire(timeout=0)  # nobody else wants it: it is not marked yet
    return lock


def _taken_over(path: Path, stems: Mapping[str, Path]) -> FileLock | None:
    """Lock an older run's folder if everything in it would be made anew."""
    if not is_results_folder(path):
        return None  # somebody else's, or another process is about to mark it
    lock = lock_of(path)
    try:
        lock.acquire(timeout=0)
    except (Timeout, NotImplementedError, OSError):  # in use, a network share without locks, or read-only
        return None
    if _replaceable(path, stems):
        return lock
    lock.release()
    return None


def lock_of(path: Path) -> FileLock:
    """Return the lock of a folder of results, which a run holds as long as it writes."""
    return FileLock(path / LOCK, thread_local=False)


def _replaceable(path: Path, stems: Mapping[str, Path]) -> bool:
    marker = path / MARKER
    try:
        earlier = json.loads(marker.read_text(encoding="utf-8"))["results"]
        last = marker.stat().st_mtime_ns
        begun = {path / name for stem in earlier.values() for name in _begun(path, stem)}
        changed = any(
            file.stat().st_mtime_ns > last
            for file in path.rglob("*")
            # images beside LabelMe files are links to the originals, which may be of any time
            if file.is_file() and not _own(file) and (file.suffix == ".json" or LABELME not in file.parts)
            if file not in begun
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False
    # a run that did not know its images beforehand is never replaced: nobody knows what it holds
    return bool(earlier) and not changed and earlier.items() <= {i: s.as_posix() for i, s in stems.items()}.items()


def _own(file: Path) -> bool:
    """Whether it is a file of the run itself, such as a killed one leaves: the lock, a part of a file, a draft."""
    return file.name == LOCK or file.name.startswith(PART) or file.parent.name == DRAFTS


def _begun(path: Path, stem: str) -> list[str]:
    """List the files of an image that the earlier run may have been writing when it was killed."""
    if (path / f"{stem}.json").exists():  # written last
        return []
    return [f"{stem}_mask.png", f"{stem}_probability.png", f"{LABELME}/{stem}.json"]
