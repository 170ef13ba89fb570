"""Files are written whole or not at all."""

import errno
import io
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from PIL import Image

FULL = "Free some space, or write elsewhere"
BLOCKED = "A file lies where a folder should be: remove it, or write elsewhere"
PART = ".part-"
"""How names of files begin that are not written whole yet."""
REMEDIES = {errno.ENOSPC: FULL, errno.EDQUOT: FULL, errno.EFBIG: FULL, errno.EEXIST: BLOCKED, errno.ENOTDIR: BLOCKED}


class UnwritableError(OSError):
    """Results cannot be written; the message names the folder and the remedy."""


@contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears under its name when it is complete.

    Args:
        path: The file; its folder is made.

    Raises:
        UnwritableError: If it cannot be written. Nothing is left behind.
    """
    # a short name of its own: the file's own name may be as long as the file system allows
    temporary = path.with_name(f"{PART}{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            yield file
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path.parent, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def place_file(file: Path, path: Path) -> None:
    """Put a file in another place, too: as a hard link, which takes no space, or as a copy where that is not possible.

    Args:
        file: The file.
        path: Its other place; the folder is made.

    Raises:
        UnwritableError: If it cannot be written.
    """
    if path.exists() and path.samefile(file):
        return
    temporary = path.with_name(f"{PART}{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(file.resolve(), temporary)
        temporary.replace(path)
    except OSError:  # another file system, or one without links
        with suppress(OSError):
            temporary.unlink()
        with written_whole(path) as copy, file.open("rb") as original:
            shutil.copyfileobj(original, copy)


def unwritable(folder: Path, error: OSError) -> UnwritableError:
    """Say which folder could not be written to, why, and what to do."""
    remedy = REMEDIES.get(error.errno or 0, "Make it writable, or write elsewhere")
    msg = f"Results cannot be written to {folder}: {error.strerror or error}. {remedy} (--default_root_dir)."
    return UnwritableError(msg)


def write_json(content: Any, path: Path) -> None:
    """Write plain data as JSON."""
    with written_whole(path) as file:
        file.write(json.dumps(content, indent=1, ensure_ascii=False).encode())


def write_png(image: Image.Image, path: Path, *, compression: int = 6) -> None:
    """Write an image as PNG.

    Args:
        image: The image.
        path: The file.
        compression: 1 (fast) to 9 (small).
    """
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=compression)
    with written_whole(path) as file:
        file.write(buffer.getbuffer())
