"""Groups of rendered parts that the packaged networks learn from: a camera looks at parts of one kind.

Files of groups are written once; an interrupted run goes on with the missing ones.
"""

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from plain_parts import Kind
from torch import Tensor

from anomalib_sofs.data.surfaces import SURFACES, defect_classes, render

HELD_OUT = ("ground_steel", "woven_fabric", "ceramic", "plastic", "board", "tablets")
"""Surfaces that are never trained on."""
TRAINED_ON = tuple(surface for surface in SURFACES if surface not in HELD_OUT)
SIZES = ((208, 208), (256, 256), (256, 256), (288, 288), (224, 320), (256, 352), (160, 320), (128, 288))
"""Sides of small pictures."""
LARGE_SIZES = ((512, 512), (512, 512), (384, 512), (512, 384), (448, 448))
"""Sides of pictures as large as a window of a query."""
NEARER = (1, 1, 1, 1, 1.5, 2, 2, 3, 4)
"""How much nearer than the whole part the camera stands: defects from hairlines to a third of the image."""
PRODUCTS = (1, 1, 1, 1, 1, 2, 2, 12, 12, 12)
"""From how many products the parts of a group come: real parts of one class vary more than rendered ones."""
FILE_GROUPS = 20
"""Groups in one file."""


class Picture(NamedTuple):
    """One rendered part."""

    image: Tensor  # (3, H, W) uint8
    mask: Tensor  # (H, W) uint8, 1 where the defect is


class Pictures(NamedTuple):
    """Parts of one group, all of one size."""

    marked: list[Picture]  # with defects of one class
    good: list[Picture]


class Plan(NamedTuple):
    """What groups look like.

    Args:
        surfaces: Kinds of surface to choose from.
        marked: Parts with a defect.
        good: Parts without.
        large: Share of the groups with pictures as large as a window.
        products: From how many products the parts come, see :data:`PRODUCTS`.
        nearer: How much nearer the camera stands, see :data:`NEARER`.
        varied: Share of the pictures that have a light and a camera of their own.
        plain: Share of the groups with plain parts, see ``plain_parts.py``.
    """

    surfaces: tuple[str, ...] = TRAINED_ON
    marked: int = 3
    good: int = 2
    large: float = 0.0
    products: tuple[int, ...] = PRODUCTS
    nearer: tuple[float, ...] = NEARER
    varied: float = 1.0
    plain: float = 0.0


def groups(cache: Path, plan: Plan, count: int, workers: int) -> list[Path]:
    """Render what is missing of ``count`` groups; return the files, each for :func:`read`.

    Raises:
        ValueError: If ``count`` is no multiple of :data:`FILE_GROUPS`.
    """
    if count < 1 or count % FILE_GROUPS:
        msg = f"{count} groups: choose a multiple of {FILE_GROUPS}."
        raise ValueError(msg)
    cache.mkdir(parents=True, exist_ok=True)
    files = [cache / f"groups-{first:05d}.pt" for first in range(0, count, FILE_GROUPS)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for file in pool.map(partial(_render_file, plan), [file for file in files if not file.exists()]):
            print(file, flush=True)
    return files


def read(files: Sequence[Path]) -> Iterator[tuple[int, Pictures]]:
    """Yield the number and the pictures of every group that could be rendered."""
    for file in files:
        for number, marked, good in torch.load(file):
            yield number, Pictures([Picture(*one) for one in marked], [Picture(*one) for one in good])


def _render_file(plan: Plan, file: Path) -> Path:
    """Write :data:`FILE_GROUPS` groups to a file, whole or not at all.

    Each group draws from a stream of its own, by its number: more groups leave the others as they were.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    first = int(file.stem.rsplit("-", 1)[1])
    rows = []
    for number in range(first, first + FILE_GROUPS):
        pictures = _pictures(random.Random(number), plan)
        if pictures is not None:
            rows.append((number, [tuple(one) for one in pictures.marked], [tuple(one) for one in pictures.good]))
    part = file.with_suffix(".part")
    torch.save(rows, part)
    part.replace(file)
    return file


def _pictures(rng: random.Random, plan: Plan) -> Pictures | None:
    """Render a group; ``None`` if fewer than two of its defects show."""
    group = Group(rng, plan)
    marked = group.several(plan.marked, good=False)
    return Pictures(marked, group.several(plan.good, good=True)) if len(marked) > 1 else None


class Group:
    """Parts that a camera sees, with one class of defect.

    Args:
        rng: What is drawn.
        plan: What to choose from.
    """

    def __init__(self, rng: random.Random, plan: Plan) -> None:
        self.rng, self.varied = rng, plan.varied
        self.surface = rng.choice(plan.surfaces)
        self.defect = rng.choice(defect_classes(self.surface))
        self.look = rng.randrange(10**6)
        self.styles = [self.look + i for i in range(rng.choice(plan.products))]
        self.size = rng.choice(LARGE_SIZES if rng.random() < plan.large else SIZES)
        self.nearer = rng.choice(plan.nearer)
        zoom = rng.choice((1, 1, 1, 0.7, 1.4, 2))
        self.zoom = 1 if min(self.size) / zoom < 96 or self.nearer > 1 else zoom
        self.grey = rng.random() < 0.5
        self.generous = rng.choice((0, 0, 0, 1, 2, 3))  # people draw around a defect, all in their own way
        self.plain = Kind(rng) if plan.plain and rng.random() < plan.plain else None

    def several(self, count: int, *, good: bool) -> list[Picture]:
        """Render ``count`` parts, or fewer, where the defect does not show on them."""
        parts: list[Picture] = []
        for _ in range(3 * count):
            if len(parts) == count:
                break
            try:
                image, mask = self.picture(good=good)
            except RuntimeError:  # a defect that shows nowhere on this part
                continue
            if good or mask.any():
                parts.append(Picture(torch.from_numpy(image).permute(2, 0, 1).contiguous(), torch.from_numpy(mask)))
        return parts

    def picture(self, *, good: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return image ``(H, W, 3)`` and mask ``(H, W)`` of another part."""
        image, mask = self._rendered(good=good) if self.plain is None else self.plain.picture(good=good)
        if self.grey:
            image = np.repeat(image.mean(2, keepdims=True), 3, 2).astype(np.uint8)
        if self.generous:
            mask = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * self.generous + 1,) * 2))
        own = self.varied == 1 or self.rng.random() < self.varied
        return _photographed(image, self.rng) if own else image, np.ascontiguousarray(mask)

    def _rendered(self, *, good: bool) -> tuple[np.ndarray, np.ndarray]:
        rng, (h, w) = self.rng, self.size
        near = min(self.nearer, 2) * rng.uniform(0.9, 1.1) if self.nearer > 1 else 1
        size = round(h * near / self.zoom), round(w * near / self.zoom)
        image, mask = render(
            self.surface, None if good else self.defect, style=rng.choice(self.styles), seed=rng.randrange(10**6),
            size=size, look=self.look,
        )  # fmt: skip
        if self.nearer > 1:
            nearer = self.nearer * rng.uniform(0.9, 1.1)
            window = _window(rng, mask, int(size[0] / nearer), int(size[1] / nearer))
            image, mask = image[window], mask[window]
        if image.shape[:2] != (h, w):
            how = cv2.INTER_AREA if image.shape[0] > h else cv2.INTER_LINEAR
            image = cv2.resize(image, (w, h), interpolation=how)
            mask = (cv2.resize(mask.astype(np.float32), (w, h), interpolation=how) > 0.4).astype(np.uint8)
        return image, mask


def _window(rng: random.Random, mask: np.ndarray, h: int, w: int) -> tuple[slice, slice]:
    """Choose a window that shows some of the defect, and not only the defect."""
    rows, columns = np.nonzero(mask)
    h, w = min(h, mask.shape[0]), min(w, mask.shape[1])
    for _ in range(8):
        if len(rows):
            k = rng.randrange(len(rows))
            y, x = int(rows[k] - rng.uniform(0.1, 0.9) * h), int(columns[k] - rng.uniform(0.1, 0.9) * w)
        else:
            y, x = rng.randint(0, mask.shape[0] - h), rng.randint(0, mask.shape[1] - w)
        y, x = min(max(y, 0), mask.shape[0] - h), min(max(x, 0), mask.shape[1] - w)
        if mask[y : y + h, x : x + w].mean() < 0.6:
            break
    return slice(y, y + h), slice(x, x + w)


def _photographed(image: np.ndarray, rng: random.Random) -> np.ndarray:
    """Vary light and camera of one picture; support and query get their own."""

    def often(probability: float) -> bool:
        return rng.random() < probability

    x = image.astype(np.float32) / 255
    if often(0.65):
        x = x ** (rng.uniform(0.75, 1.35) if often(0.77) else rng.uniform(0.45, 2.2))
    if often(0.5):
        contrast = rng.uniform(0.75, 1.25) if often(0.7) else rng.uniform(0.4, 1.6)
        x = (x - 0.5) * contrast + 0.5 + rng.uniform(-0.1, 0.1)
    if often(0.3):
        x = x * rng.uniform(0.4, 1.2)
    if often(0.25):
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.3, 1.2))
    if often(0.25):
        x = x + np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(0.005, 0.03), x.shape)
    if often(0.3):
        down, across = (np.linspace(-1, 1, side) * rng.uniform(-0.25, 0.25) for side in x.shape[:2])
        x = x * (1 + down[:, None, None] + across[None, :, None])
    x = (np.clip(x, 0, 1) * 255).astype(np.uint8)
    if often(0.5):
        x = cv2.imdecode(cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, rng.randint(60, 95)])[1], cv2.IMREAD_COLOR)
    return x
