"""Marking: what people say of the images of a folder, stroke by stroke, and how they take it back."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomalib_sofs.annotations.labels import IGNORE

from .decisions import Decision, Decisions
from .finds import FoundRegion
from .images import ImageFolder
from .painting import painted

UNDONE = 20
"""Decisions per image that can be taken back."""


class Marking:
    """The images of a folder and the decisions on them.

    Args:
        images: The images.
        decisions: The support folder.
    """

    def __init__(self, images: ImageFolder, decisions: Decisions) -> None:
        self.images = images
        self.decisions = decisions
        self._stems = _own_stems(images, decisions)
        self._undo: dict[str, list[Decision]] = {}

    def changed(self) -> None:
        """Take note of a decision."""

    def stem(self, name: str) -> Path:
        """Return what the files of an image are called."""
        return self._stems[name]

    def size(self, name: str) -> tuple[int, int]:
        """Return height and width of an image."""
        return self.images.size(name)

    def decision(self, name: str) -> Decision:
        """Return what was decided on an image."""
        return self.decisions.read(self._stems[name], self.size(name))

    def revision(self, name: str) -> str:
        """Return what stands for the decision on an image."""
        return self.decisions.revision(self._stems[name])

    def paint(self, name: str, stroke: dict[str, Any], label: str, seen: str | None = None) -> None:
        """Mark what a stroke covers as a class, or take marks and rejections away with the eraser.

        Args:
            name: The image.
            stroke: See :func:`.painting.painted`.
            label: The class; a new name makes a new class.
            seen: Revision that was painted on, see :meth:`.Decisions.write`.
        """
        area = painted(self.images.pixels(name), stroke)
        number = 0 if stroke["tool"] == "eraser" else self.decisions.number(label)
        self._mark(name, area, number, seen)

    def accept(self, name: str, region: FoundRegion, label: str, seen: str | None = None) -> None:
        """Make a found region a mark."""
        self._mark(name, self._whole(name, region), self.decisions.number(label), seen)

    def _mark(self, name: str, area: NDArray[np.bool_], number: int, seen: str | None) -> None:
        before = self.decision(name)
        marks = np.where(area, np.uint8(number), before.marks)
        self._write(name, Decision(marks, before.rejected & ~area, good=before.good and number == 0), before, seen)

    def reject(self, name: str, region: FoundRegion, seen: str | None = None) -> None:
        """Say that a found region is no defect.

        Raises:
            ValueError: If it is marked as one.
        """
        before = self.decision(name)
        free = self._whole(name, region) & ((before.marks == 0) | (before.marks == IGNORE))
        if not free.any():
            msg = "This region is marked as a defect. Erase the mark first if it is none."
            raise ValueError(msg)
        self._write(name, replace(before, rejected=before.rejected | free), before, seen)

    def _call_good(self, name: str, found: Iterable[FoundRegion], seen: str | None) -> None:
        before = self.decision(name)
        if ((before.marks > 0) & (before.marks != IGNORE)).any():
            msg = "Something is marked on this image. Erase the marks first if all of it is good."
            raise ValueError(msg)
        rejected = before.rejected.copy()
        for region in found:
            rejected |= self._whole(name, region)
        self._write(name, Decision(before.marks, rejected, good=True), before, seen)

    def undo(self, name: str, seen: str | None = None) -> bool:
        """Take the last decision on an image back; ``False`` if there is none since the session began."""
        if not self._undo.get(name):
            return False
        self.decisions.write(self._stems[name], self.images.file(name), self._undo[name][-1], seen)
        self._undo[name].pop()
        self.changed()
        return True

    def _write(self, name: str, decision: Decision, before: Decision, seen: str | None) -> None:
        self.decisions.write(self._stems[name], self.images.file(name), decision, seen)
        self._undo[name] = [*self._undo.get(name, []), before][-UNDONE:]
        self.changed()

    def _whole(self, name: str, region: FoundRegion) -> NDArray[np.bool_]:
        left, top, width, height = region.box
        area = np.zeros(self.size(name), np.bool_)
        area[top : top + height, left : left + width] = region.mask
        return area


def _own_stems(images: ImageFolder, decisions: Decisions) -> dict[str, Path]:
    """Give images other stems where the support folder has another image of that name."""
    stems = {}
    for name, stem in images.stems.items():
        chosen, number = stem, 1
        while (owner := decisions.owner(chosen)) is not None and not _same(owner, images.file(name)):
            number += 1
            chosen = Path(f"{stem}-{number}")
        stems[name] = chosen
    return stems


def _same(a: Path, b: Path) -> bool:
    return a.samefile(b) or (a.stat().st_size == b.stat().st_size and a.read_bytes() == b.read_bytes())
