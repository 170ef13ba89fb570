"""How long a user of the page waits: for the first search of a folder, and for what a correction changes."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from anomalib_sofs.page.finds import FoundRegion
from anomalib_sofs.page.search import MOST_WORKERS
from anomalib_sofs.page.session import Session

from .summary import Row

FIRST, REJECTED, MARKED = "page, first search", "page, a region rejected", "page, another image marked"
SIDE = 24
"""Pixels of a side of what is marked or rejected, at most a quarter of the image's."""
TICK = 0.02
"""Seconds between looks at how far a search is."""


def measured(folder: Path, files: Sequence[Path], rounds: int) -> list[Row]:
    """Go through the loop of the page as its server does, one decision before each search.

    Args:
        folder: Where the support folder is made.
        files: The images, all there are in their folder.
        rounds: Corrections of either kind behind each median; each is made on an image of its own.

    Returns:
        A row for the first search and for either kind of correction.
    """
    size = Image.open(files[0]).height
    side = min(SIDE, size // 4)
    low, high = (size - side) // 2, (size + side) // 2
    names = [file.name for file in files]
    for file in files[::2]:  # every other image shows what is marked
        pixels = np.asarray(Image.open(file)).copy()
        pixels[low:high, low:high] //= 3
        Image.fromarray(pixels).save(file)
    stroke = {"tool": "rectangle", "points": [[low, low], [high - 1, high - 1]]}
    region = FoundRegion(1, (low, low, side, side), np.ones((side, side), np.bool_), 0)
    session = Session(files[0].parent, folder / "support")
    times: dict[str, list[Row]] = {}

    def search(way: str) -> None:
        times.setdefault(way, []).append(_times(session))

    try:
        session.paint(names[0], stroke, "spot")
        search(FIRST)
        for number in range(min(rounds, (len(names) - 1) // 2)):
            session.reject(names[2 * number + 1], region)
            search(REJECTED)
            session.paint(names[2 * number + 2], stroke, "spot")
            search(MARKED)
    finally:
        session.close()
    workers = min(os.cpu_count() or 1, MOST_WORKERS)
    return [{"way": way, "workers": workers, **_medians(found, len(files))} for way, found in times.items()]


def _times(session: Session) -> Row:
    start, cpu, first = time.perf_counter(), time.process_time(), None
    session.start()
    while session.search.running:
        if first is None and session.search.phase == "Searching" and session.search.done:
            first = time.perf_counter() - start
        time.sleep(TICK)
    session.wait()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "first_seconds": first or seconds, "cpu_seconds": time.process_time() - cpu}


def _medians(found: Sequence[Row], images: int) -> Row:
    row = {name: median(times[name] for times in found) for name in found[0]}
    return row | {"images_per_second": images / row["seconds"]}
