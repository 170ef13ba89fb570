"""Where in a folder people put images and marks."""

from collections import Counter
from pathlib import Path

from anomalib_sofs.images import image_files, is_hidden, sub_folders

IMAGES = ("image", "images")
MASKS = ("mask", "masks")
LABELS = ("label", "labels")
SHOWN = 3  # files named in a message


def named_folders(folder: Path, *names: str) -> list[Path]:
    """List the sub-folders with one of some names, in any case of letters, in the order of the names."""
    found = {path.name.lower(): path for path in sub_folders(folder)}
    return [found[name] for name in names if name in found]


def image_folder(folder: Path) -> Path | None:
    """Find where a folder keeps its images: ``image/``, ``images/`` or the folder itself; ``None`` for no images."""
    named = named_folders(folder, *IMAGES)
    holding = [path for path in named if image_files(path)]
    if holding:
        return holding[0]
    return folder if not named and image_files(folder) else (named[0] if named else None)


def images_of(folder: Path) -> list[Path]:
    """List the images of a folder that is one of images.

    Raises:
        FileNotFoundError: If there is none.
    """
    files = image_files(folder)
    if not files:
        msg = f"No image in {folder}. Put at least one there, or remove the folder."
        raise FileNotFoundError(msg)
    return files


def describe(folder: Path) -> str:
    """Say what a folder holds, for messages: ``2 images (a.png, b.png), the folder masc/, 1 other file (a.xml)``."""
    images = image_files(folder)
    visible = sorted(path for path in folder.iterdir() if not is_hidden(path))
    files = [path for path in visible if path.is_file() and path not in images]
    folders = [path for path in visible if path.is_dir()]
    parts = []
    if images:
        parts.append(f"{_count(len(images), 'image')} ({_some(images)})")
    for path in folders[:SHOWN]:
        pictures = set(image_files(path))
        kinds = Counter("image" if file in pictures else "other file" for file in _files(path))
        inside = ", ".join(_count(number, kind) for kind, number in sorted(kinds.items())) or "no files"
        parts.append(f"{path.name}/ ({inside})")
    if len(folders) > SHOWN:
        parts.append(f"{len(folders) - SHOWN} more folders")
    if files:
        parts.append(f"{_count(len(files), 'other file')} ({_some(files)})")
    return ", ".join(parts) or "nothing"


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file() and not is_hidden(path)]


def _some(files: list[Path]) -> str:
    names = ", ".join(file.name for file in files[:SHOWN])
    return f"{names}, ..." if len(files) > SHOWN else names


def _count(number: int, kind: str) -> str:
    return f"{number} {kind}" if number == 1 else f"{number} {kind}s"
