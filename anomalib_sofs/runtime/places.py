"""Where images lie and results go: folders that every machine sees, and whatever ``fsspec`` knows by a URL.

A place is opened anew in every process: URLs travel, open file systems do not, and each machine has keys of its own.
"""

import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Self

from anomalib_sofs.images import IMAGE_SUFFIXES
from anomalib_sofs.query_files import Checked, list_images, sort_out
from anomalib_sofs.results.coco_file import CocoDraft, clear_drafts, write_coco
from anomalib_sofs.results.files import UnwritableError, write_json
from anomalib_sofs.results.finished import file_state, finished
from anomalib_sofs.results.folder import MARKER, ResultsFolder
from anomalib_sofs.results.writer import Result, Writer

LOCAL = ("file://", "local://")
WHEN = ("etag", "mtime", "lastmodified", "last_modified", "updated", "modified", "created")
"""What file systems call what changes with a file, the best first."""


class Image(NamedTuple):
    """An image to search."""

    path: str
    """Where its place finds it."""
    name: str
    """As results call it."""
    state: Mapping[str, Any]
    """What tells whether it has changed."""


class Images:
    """An image or a folder of images that every machine sees under its path.

    Args:
        place: The path.
    """

    def __init__(self, place: str) -> None:
        self.place = place

    @classmethod
    def at(cls, place: str) -> "Images":
        """Open a path or a URL."""
        path = _path(place)
        return RemoteImages(place) if path is None else cls(str(path))

    def listed(self) -> tuple[list[Image], Checked]:
        """List the images, and what else was found; none of them is opened.

        Raises:
            FileNotFoundError: If there is none.
        """
        checked = sort_out(list_images(Path(self.place)))
        return [Image(str(file.absolute()), str(file), file_state(file)) for file in checked.images], checked

    @contextmanager
    def local(self, path: str) -> Iterator[Path]:
        """Give an image as a file, as long as the context lasts."""
        yield Path(path)


class RemoteImages(Images):
    """An image or a folder of images at a URL."""

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self._files, self._root = _opened(place)

    def listed(self) -> tuple[list[Image], Checked]:
        """See :meth:`Images.listed`."""
        with _explained(self.place):
            found = self._files.find(self._root, detail=True)
        marked = {Path(path).parent.absolute() for path in found if PurePosixPath(path).name == MARKER}
        paths = {Path(path): path for path in found if PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES}
        if not paths:
            msg = f"{self.place} does not exist, or holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})."
            raise FileNotFoundError(msg)
        checked = sort_out(sorted(paths), marked.__contains__)
        images = [paths[file] for file in checked.images]
        return [Image(path, self._files.unstrip_protocol(path), _state(found[path])) for path in images], checked

    @contextmanager
    def local(self, path: str) -> Iterator[Path]:
        """See :meth:`Images.local`."""
        with TemporaryDirectory() as folder:
            file = Path(folder) / PurePosixPath(path).name
            with _explained(self._files.unstrip_protocol(path)):
                self._files.get_file(path, str(file))
            yield file


class Results:
    """A folder of results that every machine sees under its path, see :class:`~anomalib_sofs.results.writer.Writer`.

    Args:
        place: The path.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self._writer = Writer(Path(place), None, rank=None)

    @classmethod
    def at(cls, place: str) -> "Results":
        """Open a path or a URL."""
        path = _path(place)
        return RemoteResults(place) if path is None else cls(str(path.absolute()))

    @contextmanager
    def reserved(self, stems: Mapping[str, Path]) -> Iterator[tuple[Self, CocoDraft]]:
        """Reserve this place, or one beside it, for a run, and write ``coco.json`` in the end.

        Args:
            stems: Place of each image's results; those that are taken out meanwhile have none.
        """
        folder = ResultsFolder.reserve(Path(self.place), stems)
        try:
            clear_drafts(folder.path)
            try:
                yield type(self)(str(folder.path)), CocoDraft(folder.path)
            finally:
                write_coco(folder.path)
                folder.mark()
        finally:
            folder.release()

    def finished(self, stem: Path, image: Image, source: Mapping[str, Any], file_name: str) -> dict[str, Any] | None:
        """Return what an earlier run has found, see :func:`anomalib_sofs.results.finished.finished`."""
        return finished(Path(self.place), stem, image.name, source, file_name)

    def write(self, result: Result, stem: Path, file_name: str) -> dict[str, Any]:
        """Write the results of an image, its JSON last, see :meth:`~anomalib_sofs.results.writer.Writer.write`."""
        entry = self._writer.write(result, stem, file_name)
        (Path(self.place) / MARKER).touch()  # see ResultsFolder.beat
        return entry


class RemoteResults(Results):
    """A folder of results at a URL. Two runs must not write there at a time: there is no lock.

    LabelMe files, which go with a copy of every image, are left out.
    """

    def __init__(self, place: str) -> None:
        self.place = place.rstrip("/")
        self._files, self._root = _opened(self.place)

    @contextmanager
    def reserved(self, stems: Mapping[str, Path]) -> Iterator[tuple[Self, CocoDraft]]:
        """See :meth:`Results.reserved`."""
        places = (f"{self.place}_{number}" if number > 1 else self.place for number in itertools.count(1))
        chosen = next(place for place in map(type(self), places) if place._replaceable(stems))  # noqa: SLF001
        with TemporaryDirectory() as scratch:
            folder = Path(scratch)
            chosen._mark(folder, stems)  # noqa: SLF001
            try:
                yield chosen, CocoDraft(folder)
            finally:
                coco = write_coco(folder)
                if coco is not None:
                    chosen._put(folder, Path(coco.name))  # noqa: SLF001
                chosen._mark(folder, stems)  # noqa: SLF001

    def _mark(self, folder: Path, stems: Mapping[str, Path]) -> None:
        content = {"results": {image: stem.as_posix() for image, stem in stems.items()}}
        write_json(content, folder / MARKER)
        self._put(folder, Path(MARKER))

    def _replaceable(self, stems: Mapping[str, Path]) -> bool:
        """Whether all results that are here are among those of this run."""
        marker = f"{self._root}/{MARKER}"
        with _explained(self.place):
            if not self._files.exists(marker):
                return not self._files.exists(self._root) or not self._files.find(self._root)
            earlier = json.loads(self._files.cat_file(marker))["results"]
        return earlier.items() <= {image: stem.as_posix() for image, stem in stems.items()}.items()

    def finished(self, stem: Path, image: Image, source: Mapping[str, Any], file_name: str) -> dict[str, Any] | None:
        """See :meth:`Results.finished`."""
        with TemporaryDirectory() as scratch:
            try:
                for name in (f"{stem}.json", f"{stem}_mask.png"):
                    file = Path(scratch) / name
                    file.parent.mkdir(parents=True, exist_ok=True)
                    with _explained(self.place):
                        self._files.get_file(f"{self._root}/{name}", str(file))
            except FileNotFoundError:
                return None
            return finished(Path(scratch), stem, image.name, source, file_name)

    def write(self, result: Result, stem: Path, file_name: str) -> dict[str, Any]:
        """See :meth:`Results.write`."""
        with TemporaryDirectory() as scratch:
            folder = Path(scratch)
            entry = Writer(folder, None, rank=None).write(result, stem, file_name)
            for end in ("_mask.png", "_probability.png", ".json"):
                self._put(folder, stem.with_name(f"{stem.name}{end}"))
        return entry

    def _put(self, folder: Path, name: Path) -> None:
        """Copy a file of a folder to the same place here.

        Raises:
            UnwritableError: If that is not possible.
        """
        target = f"{self._root}/{name.as_posix()}"
        try:
            self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
            self._files.put_file(str(folder / name), target)
        except Exception as error:
            msg = f"Results cannot be written to {self.place}: {error or error!r}"
            raise UnwritableError(msg) from error


def _path(place: str) -> Path | None:
    """Return the path that a place has on this machine; ``None`` for a URL of any other file system."""
    for protocol in LOCAL:
        if place.startswith(protocol):
            return Path(place.removeprefix(protocol))
    return None if "://" in place or "::" in place else Path(place)


def _opened(url: str) -> tuple[Any, str]:
    import fsspec  # noqa: PLC0415 - comes with Ray Data

    try:
        files, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:  # says which package is missing, or which protocols there are
        msg = f"{url} cannot be opened: {error}"
        raise ValueError(msg) from error
    return files, root.rstrip("/")


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Say at which URL something fails; every file system has errors of its own."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        msg = f"{url} cannot be read: {error or error!r}"
        raise OSError(msg) from error


def _state(info: Mapping[str, Any]) -> dict[str, Any]:
    known = {name.lower(): value for name, value in info.items()}
    return {"bytes": known["size"], "changed": str(next((known[name] for name in WHEN if known.get(name)), ""))}
