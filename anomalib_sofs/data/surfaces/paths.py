# SPDX-License-Identifier: Apache-2.0
"""Paths that long thin defects follow, and their drawing."""

import math
from typing import TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .family import Family, Site
from .noise import Array, between, strokes
from .scene import Patch

Path: TypeAlias = NDArray[np.float64]


def length_of(family: Family, site: Site, width: float, least: float = 6.0) -> float:
    """Return the length in pixels that gives a line of ``width`` its area, at least ``least`` widths."""
    low = max(9 * site.unit, least * width)
    return float(np.clip(site.pixels(family) / width, low, max(low, 1.3 * min(site.canvas.size))))


def walk(rng: Generator, length: float, angle: float, *, wander: float, bend: float, step: float) -> Path:
    """Return a centred path ``(n, 2)`` that starts out along ``angle`` and strays from it."""
    n = max(4, math.ceil(length / step))
    turn = np.cumsum(rng.normal(size=n)) * wander / math.sqrt(n) + rng.normal(size=n) * 0.35 * wander
    heading = angle + turn - turn.mean() + bend * np.linspace(-0.5, 0.5, n)
    points = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1) * (length / n), axis=0)
    return np.asarray(points - points[n // 2])


def drawn(paths: list[Path], site: Site) -> tuple[Patch, Array]:
    """Return window and coverage of paths ``(n, 4)`` given relative to the site."""
    everything = np.concatenate(paths)
    reach = float(np.abs(everything[:, :2]).max()) + float(everything[:, 2].max()) + 3 * site.unit
    patch = Patch.around(site.canvas, site.x, site.y, reach)
    moved = [path + np.array([patch.centre[0], patch.centre[1], 0, 0]) for path in paths]
    return patch, strokes(patch.size, moved)


def tapered(points: Path, width: float, *, blunt: float) -> Path:
    """Give a path a width that runs out at both ends, and full strength."""
    t = np.linspace(-1, 1, len(points))
    taper = np.clip((1 - np.abs(t)) / max(1e-3, 0.6 * (1 - blunt)), 0.25, 1)
    return np.column_stack([points, np.maximum(width * taper, 0.45), np.ones(len(points))])


def fibre(rng: Generator, length: float, angle: float, site: Site, curl: float) -> Path:
    """Return a smoothly curling path ``(n, 2)``."""
    n = max(8, int(length / (2.5 * site.unit)))
    t = np.linspace(0, 1, n)
    heading = angle + curl * (np.sin(t * between(rng, 2, 7) + 6.3 * rng.random()) + rng.normal() * t)
    points = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1) * (length / n), axis=0)
    return np.asarray(points - points[n // 2])
