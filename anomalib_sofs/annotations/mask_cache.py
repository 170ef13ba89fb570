"""Binary PNG masks made once out of polygons, run lengths or class indices, for everything else reads mask files."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .labels import IGNORE, NORMAL
from .marked import Drawn, Marked
from .masks import OWN_MASK

FORMAT = 2  # part of every key: a new number makes all masks anew


class Sample(NamedTuple):
    """A row of the samples table as far as annotations tell it."""

    image_path: str
    mask_path: str
    label: str


class MaskCache:
    """Folder of masks, one sub-folder per annotation file; deleting it is always safe.

    A sub-folder is named after the path, time and size of its annotation file, so changed annotations are read anew. It
    is written under another name and then renamed: it is there as a whole or not at all, whoever else writes, too.

    Args:
        root: Folder of the dataset.
        folder: Where the masks go; ``None`` takes ``ROOT/.anomalib_sofs``, or a folder in the user's cache where the
            root cannot be written to.
    """

    def __init__(self, root: Path, folder: Path | str | None = None) -> None:
        self.root = root
        self._folder = None if folder is None else Path(folder)

    @property
    def folder(self) -> Path:
        """Where the masks are."""
        if self._folder is None:
            writable = os.access(self.root, os.W_OK)
            elsewhere = _digest(str(self.root.resolve()))
            self._folder = self.root / ".anomalib_sofs" if writable else _user_cache() / elsewhere
        return self._folder

    def samples_of(self, drawn: Drawn) -> list[Sample]:
        """Return what a file with marks marks, see :meth:`samples`."""
        return self.samples(drawn.file, drawn.read, key=drawn.key)

    def samples(self, annotations: Path, read: Callable[[], Iterable[Marked]], *, key: str = "") -> list[Sample]:
        """Return what an annotation file marks; masks are drawn the first time only.

        Args:
            annotations: The file.
            read: Reads and checks it, called if it is new or has changed.
            key: What else the masks depend on, such as class names.

        Returns:
            One sample per image and class.
        """
        stat = annotations.stat()
        digest = _digest(f"{FORMAT}|{annotations.resolve()}|{stat.st_mtime_ns}|{stat.st_size}|{key}")
        folder = self.folder / annotations.parent.name / f"{_plain(annotations.stem)}-{digest}"
        index = folder / "index.json"
        if not index.is_file():
            folder.parent.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder.parent))
            try:
                _write(draft, read())
                _publish(draft, folder)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        rows = json.loads(index.read_text(encoding="utf-8"))
        return [Sample(image, str(folder / mask) if mask else "", label) for image, mask, label in rows]


def _write(folder: Path, marked: Iterable[Marked]) -> None:
    rows = []
    for number, (image, label, mask) in enumerate(marked):
        name = ""
        if isinstance(mask, np.ndarray):
            name = f"{_plain(image.stem)}-{_plain(label)}-{number}.png"
            _save(folder / name, mask)
        rows.append((str(image), name, label if name else NORMAL))
    (folder / "index.json").write_text(json.dumps(rows), encoding="utf-8")


def _save(file: Path, mask: NDArray[np.uint8]) -> None:
    """Write a mask in black and white; one with ignored pixels as 0, 1 and 255, which its text says."""
    if (mask == IGNORE).any():
        text = PngInfo()
        text.add_text(OWN_MASK, f"0 normal, 1 defect, {IGNORE} ignored")
        Image.fromarray(mask).save(file, pnginfo=text)
    else:
        Image.fromarray((mask > 0).astype(np.uint8) * 255).save(file)


def _publish(draft: Path, folder: Path) -> None:
    draft.chmod(0o755)  # made for us alone, but a shared dataset has several readers
    try:
        draft.rename(folder)
    except OSError:
        # another process was first; its masks are the same
        if not (folder / "index.json").is_file():
            raise


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)[:80]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _user_cache() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "anomalib_sofs"
    try:
        base.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.gettempdir()) / f"anomalib_sofs-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    return base
