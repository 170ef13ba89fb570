"""The images that are searched: which files they are, and which of them can be read."""

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from anomalib_sofs.images import IMAGE_SUFFIXES, read_pixels
from anomalib_sofs.progress import shown
from anomalib_sofs.results.folder import is_results_folder
from anomalib_sofs.results.names import common_folder

logger = logging.getLogger(__name__)

MANY = 100  # files from which on a progress bar is shown
LISTED = 7  # files named in the last lines
MAC_FOLDER = "__MACOSX"


def list_images(path: Path) -> list[Path]:
    """List an image, or the images of a folder and all folders in it, by name.

    Raises:
        FileNotFoundError: If there is no such path, or no image.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        msg = f"{path} does not exist. IMAGES is an image or a folder of images."
        raise FileNotFoundError(msg)
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
    if not files:
        msg = f"{path} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})."
        raise FileNotFoundError(msg)
    return files


class Checked(NamedTuple):
    """Image files, sorted by what can be done with them."""

    images: list[Path]
    """Those to segment."""
    hidden: list[Path]
    """No images whatever their suffix: names that begin with a dot, and what macOS puts beside."""
    results: list[Path]
    """Pictures and masks that earlier runs have written."""
    skipped: list[tuple[Path, str]]
    """Those that cannot be read, and why."""


def sort_out(files: Sequence[Path], is_results: Callable[[Path], bool] = is_results_folder) -> Checked:
    """Tell images from other files by their names and places; none is opened.

    Args:
        files: Files with the suffix of an image.
        is_results: Tells whether a folder holds results of ours.
    """
    common = common_folder(files) if files else Path()
    images: list[Path] = []
    hidden: list[Path] = []
    results: list[Path] = []
    ours = cache(is_results)
    for file in files:
        if any(part.startswith(".") or part == MAC_FOLDER for part in file.absolute().relative_to(common).parts):
            hidden.append(file)
        elif any(ours(folder) for folder in file.absolute().parents):
            results.append(file)
        else:
            images.append(file)
    return Checked(images, hidden, results, [])


def check_queries(files: Sequence[Path]) -> Checked:
    """Decide which files of a list are images that can be segmented.

    Each is decoded as far as it takes to know: 10 to 100 ms for 12 megapixels, several at a time.

    Args:
        files: Files with the suffix of an image.
    """
    sorted_out = sort_out(files)
    images = sorted_out.images
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        found = pool.map(fault, images)
        reasons = list(shown(found, "Checking images", len(images), quiet=len(images) < MANY))
    return sorted_out._replace(
        images=[file for file, reason in zip(images, reasons, strict=True) if not reason],
        skipped=[(file, reason) for file, reason in zip(images, reasons, strict=True) if reason],
    )


def fault(file: Path) -> str:
    """Say why a file cannot be segmented; empty if it can."""
    try:
        with Image.open(file) as image:
            if image.mode[0] in "IF":
                return _fault_of_values(file)
            if image.format == "PNG":
                image.verify()  # reads every chunk and its checksum
            else:
                image.draft("L", (image.width // 8, image.height // 8))  # JPEG: all the data, but few of the pixels
                image.load()
    except Image.DecompressionBombError as error:  # refused by anomalib's reader whatever ours does
        return f"{file}: {error} Cut it into smaller images."
    except Exception as error:  # noqa: BLE001 - a broken file raises anything
        return _fault_of_values(file, error)
    return ""


def _fault_of_values(file: Path, error: Exception | None = None) -> str:
    """Read a file as it is read later; that says best what is wrong with it."""
    try:
        if not bool(np.isfinite(read_pixels(file)).all()):
            return f"{file} holds values that are not numbers (NaN or infinity). Save it again without them."
    except Exception as wrong:  # noqa: BLE001
        return str(wrong) if str(file) in str(wrong) else f"{file} cannot be read ({wrong or error!r})."
    return ""


def report(checked: Checked) -> None:
    """Say what was left out, and why."""
    for files, what in ((checked.hidden, "no images"), (checked.results, "results of earlier runs")):
        if files:
            more = ", ..." if len(files) > 1 else ""
            logger.warning("%d file(s) are %s (%s%s) and were left out.", len(files), what, files[0], more)
    for _, reason in checked.skipped:
        logger.warning("Skipped: %s", reason)


def nothing_left(checked: Checked) -> str:
    """Say that no image is left, and what was found instead."""
    found = [
        f"{len(files)} {what} ({files[0]}{', ...' if len(files) > 1 else ''})"
        for files, what in (
            (checked.hidden, "hidden or of macOS"),
            (checked.results, "results of earlier runs"),
            ([file for file, _ in checked.skipped], "not readable"),
        )
        if files
    ]
    return f"There is no image to segment. Files found: {', '.join(found)}. Name a folder of images."


def summary(skipped: Sequence[tuple[Path, str]], count: int) -> list[str]:
    """Return the last lines of a run that skipped some of its images."""
    lines = [f"{len(skipped)} of {count} images could not be read and have no results:"]
    lines += [f"  {reason}" for _, reason in skipped[:LISTED]]
    if len(skipped) > LISTED:
        lines.append(f"  ... and {len(skipped) - LISTED} more, named above.")
    return lines
