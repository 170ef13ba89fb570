# SPDX-License-Identifier: Apache-2.0
"""Mineral and moulded surfaces: ceramics, sintered parts, stone, rubber, plastic, glass."""

import math

import numpy as np
from numpy.random import Generator

from .metals import PAINTS, direction, toned
from .noise import (
    Array,
    between,
    blurred,
    cells,
    chance,
    coordinates,
    fractal,
    log_between,
    smooth,
    smoothstep,
    streaks,
    white,
)
from .scene import Canvas, Scene, mixed, surface

CLAYS = ((0.88, 0.86, 0.82), (0.75, 0.7, 0.62), (0.55, 0.6, 0.62), (0.7, 0.45, 0.35), (0.4, 0.5, 0.5), (0.3, 0.3, 0.31))
STONES = ((0.6, 0.6, 0.58), (0.7, 0.66, 0.6), (0.45, 0.45, 0.46), (0.8, 0.78, 0.76))
RUBBERS = ((0.1, 0.1, 0.1), (0.18, 0.18, 0.19), (0.35, 0.33, 0.31), (0.5, 0.15, 0.1), (0.25, 0.3, 0.32))
RESINS = (*PAINTS, (0.92, 0.92, 0.9), (0.85, 0.4, 0.12), (0.16, 0.32, 0.6), (0.88, 0.82, 0.7))
CHIPS = (
    (0.9, 0.88, 0.84),
    (0.15, 0.14, 0.14),
    (0.55, 0.4, 0.32),
    (0.45, 0.47, 0.5),
    (0.7, 0.6, 0.45),
    (0.3, 0.36, 0.32),
)


def joints(st: Generator, rng: Generator, canvas: Canvas) -> Array:
    """Return the coverage ``(H, W)`` of the joints of a tiled wall; often none."""
    u, (h, w) = canvas.unit, canvas.size
    shown, pitch, wide = (
        chance(st, 0.3),
        (between(st, 90, 240) * u, between(st, 90, 240) * u),
        between(st, 1.0, 3.0) * u,
    )
    x, y = coordinates(
        canvas.size, (w / 2 + 60 * u * rng.normal(), h / 2 + 60 * u * rng.normal()), 0.02 * float(rng.normal())
    )
    if not shown:
        return np.zeros(canvas.size, np.float32)
    gap = np.minimum(
        *(
            np.abs(a / np.float32(p) - np.round(a / np.float32(p))) * np.float32(p)
            for a, p in zip((x, y), pitch, strict=True)
        )
    )
    return 1 - smoothstep(gap, wide - 0.7 * u, wide + 0.7 * u)


def ceramic(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """Glazed tile or porcelain: even or marbled colour under a wavy gloss, some with joints."""
    u, size = canvas.unit, canvas.size
    colour, second, kind = toned(st, CLAYS), toned(st, CLAYS), int(st.integers(4))
    scale, share, sheen, wave = (
        log_between(st, 25, 100) * u,
        between(st, 0.15, 0.7),
        log_between(st, 0.08, 0.5),
        log_between(st, 0.04, 0.9),
    )
    joint = joints(st, rng, canvas)
    albedo = canvas.filled(colour, 1 + 0.015 * fractal(rng, size, 40 * u, 3) + 0.006 * white(rng, size))
    if kind == 1:
        vein = 1 - smoothstep(np.abs(fractal(rng, size, scale, 4)), 0.0, 0.25)
        albedo = mixed(albedo, canvas.colour(second), vein * np.float32(share))
    elif kind == 2:
        albedo = mixed(
            albedo, canvas.colour(second), smoothstep(fractal(rng, size, scale, 5, 0.65), -0.3, 1.2) * np.float32(share)
        )
    elif kind == 3:
        albedo = mixed(
            albedo, canvas.colour(second), smoothstep(smooth(rng, size, 2 * u), 1.2, 1.9) * np.float32(share)
        )
    height = (
        np.float32(wave * u) * smooth(rng, size, 60 * u)
        + np.float32(0.06 * u) * fractal(rng, size, 5 * u, 2)
        - 2 * u * joint
    )
    albedo = mixed(albedo, canvas.colour((0.5, 0.49, 0.47)), joint)
    return surface(canvas, albedo, height, np.float32(sheen) * (1 - joint))


def ferrite(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """Sintered and ground part: dark grey, grind streaks broken into dashes, worn sheen."""
    u, size = canvas.unit, canvas.size
    colour, angle = toned(st, ((0.36, 0.36, 0.36), (0.28, 0.28, 0.29), (0.46, 0.45, 0.44))), direction(st, rng)
    width, streak, cloud, grit = (
        log_between(st, 1.2, 3.5) * u,
        log_between(st, 0.04, 0.2),
        log_between(st, 0.03, 0.13),
        log_between(st, 0.03, 0.12),
    )
    glow, chatter = between(st, 0.05, 0.5), chance(st, 0.35)
    lines = streaks(rng, size, angle, 120 * u, width)
    dashes = lines * (0.6 + 0.4 * smoothstep(streaks(rng, size, angle, 14 * u, 2 * width), -0.5, 1.0))
    worn = smoothstep(fractal(rng, size, 90 * u, 3), 0.0, 1.6)
    tone = (
        1
        + np.float32(streak) * dashes * (0.5 + worn)
        + np.float32(cloud) * fractal(rng, size, 50 * u, 4)
        + np.float32(grit) * fractal(rng, size, 2.5 * u, 2)
    )
    tone += np.float32(glow) * worn * smoothstep(lines, 0.5, 1.8)
    if chatter:
        tone += 0.5 * np.float32(streak) * streaks(rng, size, angle + math.pi / 2, 200 * u, 1.5 * u)
    return surface(
        canvas, canvas.filled(colour, np.clip(tone, 0.1, 2.6)), np.float32(0.12 * u) * dashes, 0.04, grain=angle
    )


def concrete(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """Concrete, plaster, asphalt: cloudy, sandy, with air pores and trowel marks."""
    u, size = canvas.unit, canvas.size
    colour, sand, cloud = toned(st, STONES), log_between(st, 0.03, 0.12), log_between(st, 0.04, 0.14)
    rough, pores, trowel = log_between(st, 0.06, 0.6), between(st, 0.0, 0.45), between(st, 0, 0.05)
    angle = direction(st, rng)
    pore = smoothstep(smooth(rng, size, 4 * u), 2.0, 2.7)
    grain = fractal(rng, size, 3 * u, 2, 0.9)
    tone = 1 + np.float32(sand) * grain + np.float32(cloud) * fractal(rng, size, 80 * u, 5) - np.float32(pores) * pore
    tone += np.float32(trowel) * streaks(rng, size, angle, 100 * u, 8 * u)
    height = (
        np.float32(rough * u) * grain
        + np.float32(1.5 * rough * u) * fractal(rng, size, 25 * u, 3)
        - np.float32(3 * pores * u) * pore
    )
    return surface(canvas, canvas.filled(colour, np.clip(tone, 0.1, 2)), height, 0.02, grain=angle)


def terrazzo(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """Terrazzo, granite, engineered stone: chips of several colours in a ground mass."""
    u, size = canvas.unit, canvas.size
    ground, scale, gap = toned(st, STONES), log_between(st, 4, 22) * u, between(st, 0.05, 0.3)
    colours = np.stack([canvas.colour(toned(st, CHIPS)) for _ in range(4)])
    blend, sheen, shares = between(st, 0.35, 1.0), between(st, 0.02, 0.3), st.dirichlet(np.ones(4))
    border, labels, count = cells(rng, size, scale)
    kind = rng.choice(4, count, p=shares)
    # Chips differ in size: each keeps its own distance from the border of its cell.
    inset = (scale * (gap * 0.5 + 0.35 * rng.random(count) ** 2)).astype(np.float32)
    chip = smoothstep(
        blurred(border, 0.4 * u) - inset[labels] + np.float32(0.8 * u) * smooth(rng, size, 4 * u), -0.6 * u, 0.6 * u
    )
    tone = 1 + 0.05 * fractal(rng, size, 3 * u, 2) + 0.03 * fractal(rng, size, 40 * u, 2)
    albedo = canvas.filled(ground, tone)
    inner = colours.astype(np.float32)[kind][labels] * tone[..., None]
    albedo = albedo + (chip * np.float32(blend))[..., None] * (inner - albedo)
    return surface(canvas, albedo, np.float32(0.1 * u) * fractal(rng, size, 6 * u, 2), sheen)


def rubber(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """Rubber and soft mats: dark, matt, plain, ribbed or knobbed, with a pale bloom."""
    u, (h, w) = canvas.unit, canvas.size
    size = canvas.size
    colour, kind, pitch, angle = (
        toned(st, RUBBERS, 0.015),
        int(st.integers(4)),
        log_between(st, 8, 30) * u,
        direction(st, rng),
    )
    rough, bloom, relief = log_between(st, 0.02, 0.3), between(st, 0.0, 0.16), between(st, 0.08, 0.22)
    x, y = coordinates(size, (w / 2 + 9 * rng.normal(), h / 2 + 9 * rng.normal()), angle)
    height = np.float32(rough * u) * fractal(rng, size, 3.5 * u, 2)
    if kind == 1:
        wave = np.sin(y * np.float32(2 * math.pi / pitch))
        height = height + np.float32(relief * pitch) * wave / (0.3 + np.abs(wave))
    elif kind == 2:
        knob = np.sin(x * np.float32(math.pi / pitch)) * np.sin(y * np.float32(math.pi / pitch))
        height = height + np.float32(relief * pitch) * smoothstep(knob, 0.15, 0.55)
    tone = 1 + np.float32(bloom) * fractal(rng, size, 70 * u, 4) + 0.05 * white(rng, size)
    return surface(canvas, canvas.filled(colour, np.clip(tone, 0.2, 3)), height, 0.08, grain=angle)


def plastic(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """Moulded plastic: even colour, fine spark-eroded grain or gloss, ribs and steps."""
    u, (h, w) = canvas.unit, canvas.size
    size = canvas.size
    colour, grain, depth = toned(st, RESINS), log_between(st, 1.5, 6) * u, log_between(st, 0.01, 0.4)
    sheen, ribs, angle = log_between(st, 0.05, 0.5), int(st.integers(0, 4)), direction(st, rng)
    where, width, rise = st.random(4), between(st, 3, 22) * u, between(st, -3, 3) * u
    flow, wave = between(st, 0.0, 0.03), between(st, 0.0, 1.2)
    _, y = coordinates(size, (w / 2 + 5 * u * rng.normal(), h / 2 + 5 * u * rng.normal()), angle)
    height = np.float32(depth * u) * fractal(rng, size, grain, 2) + np.float32(wave * u) * smooth(rng, size, 110 * u)
    for i in range(ribs):
        across = np.abs(y - np.float32((where[i] - 0.5) * 1.6 * h))
        height = height + np.float32(rise) * (1 - smoothstep(across, width / 2 - 1.5 * u, width / 2 + 1.5 * u))
    tone = 1 + np.float32(flow) * streaks(rng, size, angle + 0.5, 90 * u, 12 * u) + 0.01 * fractal(rng, size, 50 * u, 2)
    return surface(canvas, canvas.filled(colour, tone), height, sheen, grain=angle)


def glass(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """Glass, film, a display: nearly nothing but soft gradients, reflections, a faint grid."""
    u, (h, w) = canvas.unit, canvas.size
    size = canvas.size
    colour = toned(st, ((0.3, 0.33, 0.34), (0.6, 0.64, 0.62), (0.12, 0.13, 0.15), (0.75, 0.77, 0.78), (0.45, 0.4, 0.3)))
    grid, pitch, tint = chance(st, 0.3), log_between(st, 3, 9) * u, between(st, 0.01, 0.05)
    bright, edge, angle = between(st, 0.05, 0.3), between(st, 1, 12) * u, between(st, 0.2, 1.3)
    x, y = coordinates(size, (w / 2 + 5 * rng.normal(), h / 2 + 5 * rng.normal()), 0.02 * float(rng.normal()))
    tone = 1 + 0.05 * smooth(rng, size, 130 * u) + 0.006 * white(rng, size)
    if grid:
        period = np.float32(2 * math.pi / pitch)
        tone = tone + np.float32(tint) * (np.cos(x * period) + np.cos(y * period))
    along = x * np.float32(math.cos(angle)) + y * np.float32(math.sin(angle))
    start = between(rng, -0.5, 0.3) * w
    band = smoothstep(along, start, start + edge) * (1 - smoothstep(along, start + 0.25 * w, start + 0.25 * w + edge))
    albedo = mixed(canvas.filled(colour, tone), canvas.colour((0.9, 0.93, 0.95)), band * np.float32(bright))
    return surface(canvas, albedo, np.float32(0.8 * u) * smooth(rng, size, 80 * u), 0.25)
