"""Rendered pictures on the device that trains: the windows of a batch are one look-up, without any worker process."""

import random
from collections.abc import Sequence
from typing import NamedTuple

import torch
from rendered_groups import Picture, Pictures
from torch import Tensor

from anomalib_sofs.data.crops import resize_whole
from anomalib_sofs.windows import reflect

ANCHORS = 64
"""Defect pixels of a picture around which windows are laid."""


class Place(NamedTuple):
    """Where a picture lies among the pixels of a bank."""

    offset: int
    """Of its first pixel."""
    height: int
    width: int
    anchors: list[tuple[int, int]]
    """Some of its defect pixels, row and column."""


class Group(NamedTuple):
    """The pictures of a group."""

    marked: list[Place]
    good: list[Place]


class PictureBank:
    """Groups of pictures as one tensor of pixels.

    Args:
        device: Where the pixels are kept, four bytes each.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.groups: list[Group] = []
        self._count = 0
        self._added: list[Tensor] = []
        self._pixels = torch.empty(0, 4, dtype=torch.uint8, device=device)  # red, green, blue, defect

    def add(self, pictures: Pictures, resized: int | None) -> None:
        """Add a group: its pictures as they are, or ``resized`` to so many pixels and continued to a square."""
        self.groups.append(Group(*([self._place(one, resized) for one in part] for part in pictures)))

    def _place(self, picture: Picture, resized: int | None) -> Place:
        image, mask = (plane.to(self.device) for plane in picture)
        if resized is not None:
            image, mask = resize_whole(image.float(), mask, resized)
        planes = torch.cat([image.float().round().to(torch.uint8), mask[None].to(torch.uint8)])
        defect = mask.nonzero()
        anchors = defect[:: max(len(defect) // ANCHORS, 1)].tolist()
        place = Place(self._count, *mask.shape, [(y, x) for y, x in anchors])
        self._added.append(planes.flatten(1).T.contiguous())
        self._count += mask.numel()
        return place

    def windows(
        self, places: Sequence[Place], side: int, rng: random.Random | None = None, turn: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Look up a window of each picture, continued by reflection where the picture is smaller.

        Args:
            places: The pictures.
            side: Of the windows in pixels.
            rng: Draws where a window lies that is smaller than its picture, over a defect if there is one; ``None``
                takes the upper left one.
            turn: One of the eight ways to mirror and transpose them.

        Returns:
            Images ``(n, 3, side, side)`` in [0, 1] and masks ``(n, side, side)``.
        """
        if self._added:
            self._pixels = torch.cat([self._pixels, *self._added])
            self._added = []
        lines: tuple[list[Tensor], list[Tensor]] = [], []
        for place in places:
            corner = (0, 0) if rng is None else _corner(place, side, rng)
            for line, first, length in zip(lines, corner, (place.height, place.width), strict=True):
                line.append(reflect(first + torch.arange(side), length))
        rows, columns = (torch.stack(line) for line in lines)
        rows = rows * torch.tensor([[place.width] for place in places])
        rows = rows + torch.tensor([[place.offset] for place in places])
        rows, columns = rows.to(self.device), columns.to(self.device)
        planes = self._pixels[rows[:, :, None] + columns[:, None, :]].permute(0, 3, 1, 2)
        planes = turned(planes, turn)
        return planes[:, :3].float() / 255, planes[:, 3].float()


def _corner(place: Place, side: int, rng: random.Random) -> tuple[int, int]:
    y, x = rng.choice(place.anchors or [(rng.randrange(place.height), rng.randrange(place.width))])
    top = min(max(y - rng.randrange(side), 0), max(place.height - side, 0))
    left = min(max(x - rng.randrange(side), 0), max(place.width - side, 0))
    return top, left


def turned(planes: Tensor, turn: int) -> Tensor:
    """Mirror and transpose planes ``(..., s, s)``, one of eight ways."""
    planes = planes.transpose(-1, -2) if turn & 4 else planes
    planes = planes.flip(-1) if turn & 1 else planes
    return planes.flip(-2) if turn & 2 else planes
