# SPDX-License-Identifier: Apache-2.0
"""Long thin defects: scratches, cracks, threads, frays, cuts, creases."""

import math
from dataclasses import replace

import numpy as np
from numpy.random import Generator

from .family import Family, Site
from .noise import between, blurred, chance, fractal, smooth, smoothstep
from .paths import Path, drawn, fibre, length_of, tapered, walk
from .scene import Effect


def scratch(rng: Generator, family: Family, site: Site) -> Effect:
    """One to a few nearly straight grooves that set in and fade out, with thrown-up sides."""
    width = family.width * site.unit
    length = length_of(family, site, width)
    angle = site.scene.grain + family.lean
    number = 1 if family.variant < 0.6 else int(rng.integers(2, 5))
    paths = []
    for k in range(number):
        part = length / number**0.5 * (1 if k == 0 else between(rng, 0.4, 1))
        course = walk(
            rng,
            part,
            angle + 0.05 * rng.normal(),
            wander=0.03 + 0.1 * family.rough,
            bend=0.5 * family.soft * rng.normal(),
            step=3 * site.unit,
        )
        path = tapered(course, width * (1 if k == 0 else 0.7), blunt=family.variant)
        # It lifts off the surface here and there.
        press = np.clip(
            1.1
            + (0.1 + 0.7 * family.rough)
            * np.interp(
                np.arange(len(path)), np.arange(0, len(path) + 4, 4), rng.normal(size=len(range(0, len(path) + 4, 4)))
            ),
            0.0,
            1,
        )
        path[:, 3] = press
        if k:
            path[:, :2] += rng.normal(size=2) * (4 * site.unit + 0.05 * length)
        paths.append(path)
    patch, line = drawn(paths, site)
    inside = np.minimum(line * 1.3, 1)
    groove = blurred(line, 0.45 * width)
    height = np.float32(-0.9 * family.relief * width) * groove + np.float32(0.35 * family.relief * width) * blurred(
        line, 0.9 * width
    )
    keep = 0.85 if family.variant > 0.2 else 0.2
    return Effect(patch, inside, paint=inside * np.float32(keep), coat=family.coat, height=height)


def crack(rng: Generator, family: Family, site: Site) -> Effect:
    """A jagged dark line of varying width that branches."""
    width = family.width * site.unit * 0.85
    length = length_of(family, site, width)
    angle = site.scene.grain + family.lean
    wander, step = 0.5 + 0.7 * family.rough, 2.5 * site.unit
    trunk = walk(rng, length, angle, wander=wander, bend=0.4 * rng.normal(), step=step)

    def open_up(points: Path, thick: float) -> Path:
        path = tapered(points, thick, blunt=0.2)
        path[:, 2] = np.maximum(
            path[:, 2] * np.exp(0.35 * np.repeat(rng.normal(size=len(path) // 2 + 1), 2)[: len(path)]), 0.5
        )
        return path

    paths = [open_up(trunk, width)]
    for _ in range(int(rng.poisson(0.4 + 2.2 * family.variant))):
        root = int(rng.integers(1, len(trunk) - 1))
        side = between(rng, 0.35, 1.1) * (1 if chance(rng, 0.5) else -1)
        twig = walk(rng, length * between(rng, 0.12, 0.4), angle + side, wander=wander, bend=0.0, step=step)
        paths.append(open_up(twig - twig[0] + trunk[root], 0.6 * width))
    patch, line = drawn(paths, site)
    inside = np.minimum(line * 1.25, 1)
    deep = replace(family, opaque=0.5 + 0.5 * family.opaque)
    return Effect(
        patch,
        inside,
        paint=inside * np.float32(0.9),
        coat=deep.coat,
        height=np.float32(-0.8 * family.relief * width) * blurred(line, 0.4 * width),
        shine=-inside,
    )


def thread(rng: Generator, family: Family, site: Site) -> Effect:
    """A hair, lint or loose thread lying on the surface, with a faint shadow."""
    width = max(0.7, 0.8 * family.width) * site.unit
    length = length_of(family, site, width, 16)
    points = fibre(rng, length, site.scene.grain + family.lean, site, 0.4 + 1.8 * family.rough)
    path = np.column_stack([points, np.full(len(points), width), np.ones(len(points))])
    patch, line = drawn([path], site)
    inside = np.minimum(line * 1.2, 1)
    solid = replace(family, opaque=0.7 + 0.3 * family.opaque)
    return Effect(
        patch,
        inside,
        paint=inside,
        coat=solid.coat,
        cover=inside,
        height=np.float32(0.7 * family.relief * width) * blurred(line, 0.35 * width),
    )


def fray(rng: Generator, family: Family, site: Site) -> Effect:
    """Loose fibres standing out of a disturbed place in a cloth or at its edge."""
    radius = max(math.sqrt(site.pixels(family) / math.pi) * 1.5, 5 * site.unit)
    angle = site.scene.grain + family.lean
    width = max(0.7, 0.6 * family.width) * site.unit
    paths = []
    for _ in range(int(rng.integers(6, 14))):
        points = fibre(
            rng, radius * between(rng, 0.7, 1.7), angle + 0.5 * (0.3 + family.variant) * rng.normal(), site, 0.9
        )
        points = points - points[0] + rng.normal(size=2) * 0.3 * radius
        paths.append(
            np.column_stack([points, np.full(len(points), width), between(rng, 0.6, 1) * np.ones(len(points))])
        )
    patch, line = drawn(paths, site)
    x, y = patch.axes(angle)
    matted = np.exp(-(x * x + y * y * 1.5) / np.float32(0.42 * radius * radius))
    core = smoothstep(matted + 0.15 * fractal(rng, patch.size, 0.4 * radius, 2), 0.45, 0.75)
    pale = replace(family, dark=family.dark, opaque=0.35 + 0.5 * family.opaque)
    sway = np.float32(0.25 * radius) * core
    return Effect(
        patch, np.maximum(np.minimum(line * 1.2, 1), core), paint=np.maximum(line, 0.35 * core), coat=pale.coat,
        height=np.float32(0.6 * site.unit * family.relief) * (line + core * smooth(rng, patch.size, 2 * site.unit)),
        level=0.7 * core,
        cover=np.minimum(line, 1),
        warp=(sway * smooth(rng, patch.size, 0.6 * radius), sway * smooth(rng, patch.size, 0.6 * radius)),
    )  # fmt: skip


def cut(rng: Generator, family: Family, site: Site) -> Effect:
    """A clean slit that gapes in the middle, with raised lips."""
    width = (1.0 + family.width) * site.unit
    length = length_of(family, site, width)
    points = walk(
        rng,
        length,
        site.scene.grain + family.lean,
        wander=0.08,
        bend=0.4 * family.variant * rng.normal(),
        step=2 * site.unit,
    )
    gape = np.sqrt(np.clip(1 - np.linspace(-1, 1, len(points)) ** 2, 0.02, 1))
    patch, line = drawn([np.column_stack([points, np.maximum(width * gape, 0.6), np.ones(len(points))])], site)
    lips = blurred(line, 1.1 * site.unit)
    deep = replace(family, opaque=0.8)
    return Effect(
        patch,
        np.maximum(line, smoothstep(lips, 0.3, 0.5)),
        paint=line,
        coat=deep.coat,
        height=np.float32(2.5 * site.unit * family.relief) * (lips - 1.3 * line),
    )


def crease(rng: Generator, family: Family, site: Site) -> Effect:
    """A fold: a long soft ridge with a bright and a dark flank."""
    width = (1.8 + family.width) * site.unit
    length = length_of(family, site, 1.2 * width)
    points = walk(
        rng,
        length,
        site.scene.grain + family.lean,
        wander=0.15 + 0.4 * family.rough,
        bend=0.5 * rng.normal(),
        step=4 * site.unit,
    )
    patch, line = drawn([tapered(points, width, blunt=0.3)], site)
    ridge = blurred(line, 0.3 * width)
    sign = 1 if family.variant > 0.4 else -1
    return Effect(
        patch,
        smoothstep(ridge, 0.15, 0.6),
        paint=ridge * np.float32(0.25),
        coat=family.coat,
        height=np.float32(sign * 0.9 * family.relief * width) * ridge,
    )


def flow(rng: Generator, family: Family, site: Site) -> Effect:
    """Flow or weld lines in a moulding: several faint parallel wavy lines."""
    width = family.width * site.unit
    length = length_of(family, site, 4 * width)
    line = walk(rng, length, family.lean, wander=0.25, bend=0.7 * rng.normal(), step=4 * site.unit)
    normal = np.array([-math.sin(family.lean), math.cos(family.lean)])
    paths = [
        tapered(line + normal * k * width * 3 + 0.3 * site.unit * rng.normal(size=2), width, blunt=0.1)
        for k in range(1 + int(4 * family.variant))
    ]
    patch, cover = drawn(paths, site)
    return Effect(
        patch,
        np.minimum(cover * 1.2, 1),
        paint=blurred(cover, 0.4 * width),
        coat=replace(family, opaque=0.4 * family.opaque).coat,
        height=np.float32(0.3 * width) * cover,
    )


def dead_line(rng: Generator, family: Family, site: Site) -> Effect:
    """A failed row of a display or a drawn line in glass: dead straight, of even width."""
    width = max(1.0, 0.8 * family.width) * site.unit
    half = between(rng, 0.15, 0.6) * min(site.canvas.size)
    along = np.array([1.0, 0.0]) if family.variant < 0.5 else np.array([0.0, 1.0])
    points = along * np.linspace(-half, half, 12)[:, None]
    patch, line = drawn([np.column_stack([points, np.full(12, width), np.ones(12)])], site)
    return Effect(patch, line, paint=line, coat=family.coat)
