# SPDX-License-Identifier: Apache-2.0
"""Metal surfaces.

Every function here and in its sisters takes the generator of the style, whose draws all
come first, the generator of the instance, and the canvas, and returns a full scene.
"""

import math

import numpy as np
from numpy.random import Generator

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
    turned,
    white,
)
from .scene import Canvas, Scene, surface

STEELS = (
    (0.62, 0.62, 0.63),
    (0.5, 0.51, 0.53),
    (0.72, 0.71, 0.68),
    (0.66, 0.52, 0.36),
    (0.7, 0.66, 0.55),
    (0.42, 0.43, 0.45),
)
PAINTS = (
    (0.85, 0.85, 0.83), (0.25, 0.3, 0.42), (0.62, 0.14, 0.12), (0.15, 0.15, 0.16), (0.78, 0.66, 0.22),
    (0.3, 0.45, 0.33), (0.55, 0.57, 0.58),
)  # fmt: skip


def toned(st: Generator, colours: tuple[tuple[float, float, float], ...], spread: float = 0.03) -> Array:
    """Pick one of a material's colours and vary it a little, RGB."""
    base = np.array(colours[int(st.integers(len(colours)))], np.float32)
    # Greys stay grey: a material varies in hue as far as it has one.
    hue = np.float32(spread * (0.25 + 2 * float(np.ptp(base)))) * st.normal(size=3).astype(np.float32)
    return np.clip(base * np.float32(between(st, 0.85, 1.15)) + hue, 0.01, 0.98)


def direction(st: Generator, rng: Generator) -> float:
    """Return the direction of a product's grain: mostly square to the frame, a little off."""
    angle = float(st.choice([0.0, math.pi / 2, math.pi / 2])) if chance(st, 0.75) else between(st, 0, math.pi)
    return angle + 0.025 * float(rng.normal())


def brushed_metal(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """Brushed sheet: fine long hairlines, a few deep ones, a streaky sheen."""
    u, size = canvas.unit, canvas.size
    colour, angle = toned(st, STEELS), direction(st, rng)
    length, width = log_between(st, 25, 160) * u, log_between(st, 0.8, 2.0) * u
    depth, tint, sheen = log_between(st, 0.01, 0.14), log_between(st, 0.015, 0.09), between(st, 0.05, 0.3)
    fine = streaks(rng, size, angle, length, width)
    coarse = streaks(rng, size, angle, 3 * length, 5 * width)
    deep = smoothstep(streaks(rng, size, angle, 0.7 * length, width), 1.9, 2.8)
    tone = 1 + np.float32(tint) * (fine + 0.7 * coarse) - np.float32(1.5 * tint) * deep
    height = np.float32(depth * u) * (fine - 1.5 * deep)
    return surface(
        canvas,
        canvas.filled(colour, np.clip(tone, 0.1, 2)),
        height,
        np.float32(sheen) * (1 + 0.4 * coarse),
        grain=angle,
    )


def ground_steel(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """Rolled or ground strip: dull, faint roll streaks, cloudy, sometimes pickled and rough."""
    u, size = canvas.unit, canvas.size
    colour, angle = toned(st, STEELS), direction(st, rng)
    length, width = log_between(st, 40, 300) * u, log_between(st, 1.5, 7) * u
    streak, cloud, grit = log_between(st, 0.008, 0.07), log_between(st, 0.01, 0.12), log_between(st, 0.01, 0.14)
    rough, banks = log_between(st, 0.01, 0.12), chance(st, 0.3)
    lines = streaks(rng, size, angle, length, width)
    grain = fractal(rng, size, 3 * u, 2, 0.9)
    tone = 1 + np.float32(streak) * lines + np.float32(cloud) * fractal(rng, size, 70 * u, 3) + np.float32(grit) * grain
    if banks:
        tone += np.float32(2 * streak) * smoothstep(streaks(rng, size, angle, 4 * length, 10 * width), 0.6, 1.2)
    height = np.float32(rough * u) * (grain + 0.5 * lines)
    return surface(canvas, canvas.filled(colour, np.clip(tone, 0.1, 2)), height, 0.08, grain=angle)


def machined(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """Turned or milled face: regular feed marks on circles or arcs, a fan-shaped sheen."""
    u, size = canvas.unit, canvas.size
    h, w = size
    colour, pitch = toned(st, STEELS), log_between(st, 2.5, 9) * u
    depth, tint = log_between(st, 0.1, 0.5), log_between(st, 0.02, 0.1)
    far, where = log_between(st, 0.05, 4.0), between(st, 0, 2 * math.pi)
    cross, sheen = chance(st, 0.3), between(st, 0.05, 0.35)
    centre = (
        w / 2 + far * w * math.cos(where) + 6 * u * rng.normal(),
        h / 2 + far * h * math.sin(where) + 6 * u * rng.normal(),
    )
    x, y = coordinates(size, centre)
    r = np.sqrt(x * x + y * y)
    phase = r * np.float32(2 * math.pi / pitch) + 0.35 * smooth(rng, size, 90 * u)
    rings = np.sin(phase) + 0.4 * np.sin(0.47 * phase + 1)
    if cross:
        other = np.sqrt((x - np.float32(w * 0.9)) ** 2 + (y + np.float32(h * 0.3)) ** 2)
        rings = 0.6 * rings + 0.6 * np.sin(other * np.float32(2 * math.pi / pitch))
    profile = np.zeros(math.ceil(float(r.max())) + 2, np.float32)
    profile += blurred(white(rng, (1, profile.size)), 0.7 * u).ravel()
    uneven = profile[r.astype(np.int32)]
    fan = np.cos(2 * np.arctan2(y, x) + np.float32(where))
    tone = 1 + np.float32(tint) * (0.5 * rings + uneven) + np.float32(0.1) * fan + 0.02 * white(rng, size)
    height = np.float32(depth * u) * (0.5 * rings + 0.5 * uneven)
    return surface(
        canvas,
        canvas.filled(colour, np.clip(tone, 0.1, 2)),
        height,
        np.float32(sheen) * (1 + 0.5 * fan),
        grain=where + math.pi / 2,
    )


def casting(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """Cast or blasted skin: grainy relief at two scales, dull, dark specks of sand."""
    u, size = canvas.unit, canvas.size
    colour = toned(st, STEELS) * np.float32(between(st, 0.6, 1.0))
    grain, fine, coarse = log_between(st, 2, 7) * u, log_between(st, 0.1, 0.7), log_between(st, 0.2, 2.5)
    cloud, speck, sheen = log_between(st, 0.02, 0.15), log_between(st, 0.02, 0.2), between(st, 0.02, 0.2)
    skin = fractal(rng, size, grain, 3, 0.7)
    lumps = fractal(rng, size, 9 * grain, 3)
    tone = (
        1
        + np.float32(cloud) * lumps
        + 0.04 * skin
        - np.float32(speck) * smoothstep(smooth(rng, size, 0.7 * grain), 1.4, 2.2)
    )
    return surface(
        canvas,
        canvas.filled(colour, np.clip(tone, 0.1, 2)),
        np.float32(fine * u) * skin + np.float32(coarse * u) * lumps,
        sheen,
    )


def coated_sheet(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """Painted or powder-coated sheet: one colour, orange peel, sometimes metal flakes."""
    u, size = canvas.unit, canvas.size
    colour, peel, depth = toned(st, PAINTS), log_between(st, 3, 14) * u, log_between(st, 0.02, 0.7)
    flakes, sheen, wave = chance(st, 0.3), log_between(st, 0.05, 0.5), between(st, 0.0, 0.8)
    skin = fractal(rng, size, peel, 2)
    tone = 1 + 0.012 * fractal(rng, size, 80 * u, 2) + 0.008 * skin
    if flakes:
        tone = tone + 0.09 * smooth(rng, size, 1.3 * u)
    height = np.float32(depth * u) * skin + np.float32(wave * u) * smooth(rng, size, 90 * u)
    return surface(canvas, canvas.filled(colour, tone), height, sheen)


def galvanised(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """Zinc spangle or coarse crystals: cells of differing brightness, each faintly streaked."""
    u, size = canvas.unit, canvas.size
    colour, scale, spread = toned(st, STEELS[:3]), log_between(st, 9, 40) * u, log_between(st, 0.04, 0.16)
    seam, angle = between(st, 0.0, 0.1), direction(st, rng)
    border, labels, count = cells(rng, size, scale, stretch=between(st, 1.0, 1.6))
    shade = rng.normal(size=count).astype(np.float32)[labels]
    tone = (
        1
        + np.float32(spread) * blurred(shade, 0.8 * u)
        + 0.03 * streaks(rng, size, angle, 40 * u, 2 * u)
        + 0.03 * white(rng, size)
    )
    tone -= np.float32(seam) * (1 - smoothstep(border, 0.0, 2.5 * u))
    return surface(
        canvas,
        canvas.filled(colour, np.clip(tone, 0.1, 2)),
        0.15 * u * fractal(rng, size, 5 * u, 2),
        np.float32(0.1) * (1 + 0.5 * shade),
        grain=angle,
    )


def perforated(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """Punched sheet or wire grid: a regular lattice of openings onto the backdrop."""
    u, size = canvas.unit, canvas.size
    h, w = size
    colour, pitch, open_share = toned(st, STEELS + PAINTS[:4]), log_between(st, 14, 38) * u, between(st, 0.22, 0.42)
    square, stagger, dark = chance(st, 0.5), chance(st, 0.5), float(st.choice([0.04, 0.08, 0.85]))
    slant = float(st.choice([0.0, 0.0, math.pi / 4]))
    angle = slant + 0.03 * float(rng.normal())
    x, y = coordinates(size, (w / 2 + pitch * rng.random(), h / 2 + pitch * rng.random()), angle)
    row = np.floor(y / np.float32(pitch))
    if stagger:
        x = x + np.float32(pitch / 2) * (row % 2)
    col = np.floor(x / np.float32(pitch))
    dx, dy = x - (col + 0.5) * np.float32(pitch), y - (row + 0.5) * np.float32(pitch)
    gap = np.maximum(np.abs(dx), np.abs(dy)) if square else np.hypot(dx, dy)
    depth = gap - np.float32(open_share * pitch)
    solid = np.clip(depth + 0.5, 0, 1)
    height = -np.float32(1.6 * u) * cv_exp(depth / np.float32(1.5 * u)) + 0.1 * u * fractal(rng, size, 4 * u, 2)
    tone = 1 + 0.04 * fractal(rng, size, 20 * u, 3)
    scene = surface(canvas, canvas.filled(colour, tone), height, 0.15, grain=angle)
    hole = canvas.colour(np.array([dark, dark, dark]))
    scene.cover, scene.depth = solid, depth
    scene.backdrop = np.broadcast_to(hole, scene.albedo.shape)
    return scene


def cv_exp(depth: Array) -> Array:
    """Return ``exp(-depth)`` for positive depths and 1 for the rest."""
    return np.exp(-np.clip(depth, 0, 20)).astype(np.float32)


def foil(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """Crumpled foil or film: flat facets meeting in creases, strongly mirroring."""
    u, size = canvas.unit, canvas.size
    colour, scale, depth = toned(st, STEELS), log_between(st, 18, 70) * u, log_between(st, 0.04, 0.4)
    sheen = between(st, 0.2, 0.6)
    folds = np.zeros(size, np.float32)
    for angle in rng.random(3) * math.pi:
        folds += np.abs(turned(fractal(rng, (math.ceil(1.5 * max(size)),) * 2, 2.2 * scale, 3), float(angle), size))
    tone = 1 + 0.03 * fractal(rng, size, 40 * u, 2)
    return surface(canvas, canvas.filled(colour, tone), np.float32(depth * 0.12 * scale) * folds, sheen)
