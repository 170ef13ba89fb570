# SPDX-License-Identifier: Apache-2.0
"""Engineered parts with an outline of their own: rods and screws, brackets, rows of bristles."""

import math

import numpy as np
from numpy.random import Generator

from .layout import disc, plate, standing
from .metals import PAINTS, STEELS, toned
from .minerals import RESINS
from .noise import between, blurred, chance, coordinates, fractal, log_between, smooth, smoothstep, streaks, white
from .scene import Canvas, Scene, surface


def rod(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """Screw, pin, pipe or bottle seen from the side: a cylinder with thread, collar or head."""
    u, (h, w) = canvas.unit, canvas.size
    colour, second = toned(st, STEELS + RESINS), toned(st, STEELS + RESINS)
    half, lean = between(st, 0.1, 0.36) * min(h, w), float(st.choice([0.0, math.pi / 2])) + between(st, -0.2, 0.2)
    pitch, threaded, depth = log_between(st, 5, 18) * u, chance(st, 0.5), between(st, 0.15, 0.4)
    head, tip, grain = between(st, 1.0, 1.8), between(st, 0.25, 0.75), log_between(st, 0.01, 0.08)
    sheen, ends, collar = between(st, 0.1, 0.5), between(st, 0.3, 0.6), chance(st, 0.4)
    backdrop_seed = st.spawn(1)[0]
    centre = (w / 2 + 6 * u * rng.normal(), h / 2 + 6 * u * rng.normal())
    x, y = coordinates(canvas.size, centre, lean + 0.03 * float(rng.normal()))
    along = x / np.float32(max(h, w))
    # The head takes one end, thread or collar begins at the tip mark.
    wide = np.where(along < np.float32(-0.5 * ends), np.float32(min(head * half, 0.45 * min(h, w))), np.float32(half))
    thread = np.zeros(canvas.size, np.float32)
    if threaded:
        ramp = (x + y * np.float32(pitch / (4 * half))) / np.float32(pitch)
        tooth = np.abs(ramp - np.floor(ramp) - 0.5) * 2
        thread = tooth * (along > np.float32(tip - 0.5))
        wide = wide - np.float32(depth * 0.35 * pitch) * thread
    outside = np.maximum(np.abs(y) - wide, np.abs(x) - np.float32(ends * max(h, w)))
    t = np.clip(np.abs(y) / np.maximum(wide, 1), 0, 1)
    height = np.float32(0.55 * half) * np.sqrt(1 - 0.97 * t * t) - np.float32(depth * pitch) * thread
    if collar:
        height = height + np.float32(3 * u) * (np.abs(along - np.float32(tip - 0.55)) < 0.02)
    turned = streaks(rng, canvas.size, lean + math.pi / 2, 60 * u, 1.5 * u)
    tone = (
        1 + np.float32(grain) * (turned + 0.7 * white(rng, canvas.size)) + 0.05 * fractal(rng, canvas.size, 40 * u, 3)
    )
    albedo = canvas.filled(colour, tone)
    if collar:
        other = (along > np.float32(tip - 0.55)).astype(np.float32)[..., None]
        albedo = albedo + other * (canvas.filled(second, tone) - albedo)
    height = height + 0.06 * u * fractal(rng, canvas.size, 4 * u, 2)
    return standing(surface(canvas, albedo, height, sheen, grain=lean), canvas, -outside, backdrop_seed, rng)


def bracket(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """Cast, milled or moulded housing: joined plates with bosses, pockets and bores."""
    u, (h, w) = canvas.unit, canvas.size
    colour = toned(st, STEELS + STEELS + PAINTS)
    rough, fine, sheen = log_between(st, 0.02, 0.4), log_between(st, 2, 6) * u, between(st, 0.03, 0.35)
    cloud, backdrop_seed = log_between(st, 0.01, 0.08), st.spawn(1)[0]
    move, spin = 5 * u * rng.normal(size=2), 0.04 * float(rng.normal())
    c, s = math.cos(spin), math.sin(spin)

    def at(px: float, py: float) -> tuple[float, float]:
        dx, dy = (px - 0.5) * w, (py - 0.5) * h
        return w / 2 + move[0] + c * dx - s * dy, h / 2 + move[1] + s * dx + c * dy

    def box(low: float, high: float) -> np.ndarray:
        size = (between(st, low, high) * w / 2, between(st, low, high) * h / 2)
        return plate(canvas, at(between(st, 0.3, 0.7), between(st, 0.3, 0.7)), size, log_between(st, 2, 30) * u, spin)

    depth = plate(
        canvas, at(0.5, 0.5), (between(st, 0.3, 0.5) * w, between(st, 0.2, 0.5) * h), log_between(st, 2, 40) * u, spin
    )
    for _ in range(int(st.integers(0, 3))):
        depth = np.maximum(depth, box(0.3, 0.9))
    height = np.zeros(canvas.size, np.float32)
    tone = 1 + np.float32(cloud) * fractal(rng, canvas.size, 50 * u, 4) + 0.015 * white(rng, canvas.size)
    for _ in range(int(st.integers(1, 5))):
        step, polished = between(st, -5, 5) * u, chance(st, 0.3)
        shape = (
            box(0.15, 0.7)
            if chance(st, 0.5)
            else disc(canvas, at(*st.uniform(0.2, 0.8, 2)), between(st, 0.05, 0.2) * min(h, w))
        )
        edge = smoothstep(shape, -1.2 * u, 1.2 * u)
        height = height + np.float32(step) * edge
        tone = tone * (1 + np.float32(0.25 if polished else 0.0) * edge)
    bores = int(st.integers(0, 5))
    for px, py in st.uniform(0.15, 0.85, (bores, 2)):
        bore = disc(canvas, at(px, py), log_between(st, 4, 16) * u)
        depth = np.minimum(depth, -bore)
    height = height + np.float32(rough * u) * fractal(rng, canvas.size, fine, 3, 0.7)
    return standing(surface(canvas, canvas.filled(colour, tone), height, sheen), canvas, depth, backdrop_seed, rng)


def bristles(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """Brush, zip, comb, heat sink: long parallel elements in rows, some a little askew."""
    u, size = canvas.unit, canvas.size
    first, second = toned(st, RESINS + STEELS), toned(st, RESINS + STEELS)
    pitch, fill, angle = (
        log_between(st, 5, 16) * u,
        between(st, 0.5, 0.85),
        float(st.choice([0.0, math.pi / 2])) + 0.03 * float(rng.normal()),
    )
    rows, sway, mixed_colours, sheen = (
        log_between(st, 30, 120) * u,
        between(st, 0.0, 0.25),
        chance(st, 0.5),
        between(st, 0.05, 0.35),
    )
    gap = between(st, 0.0, 0.3)
    x, y = coordinates(size, (size[1] / 2 + pitch * rng.random(), size[0] / 2 + 9 * u * rng.normal()), angle)
    row = np.floor(y / np.float32(rows))
    fy = np.abs(y / np.float32(rows) - row - 0.5) * 2
    x = x + np.float32(sway * pitch) * smooth(rng, size, 2 * rows) + np.float32(0.5 * pitch) * (row % 2)
    column = np.floor(x / np.float32(pitch))
    own = rng.normal(size=4096).astype(np.float32)[(column * 61 + row).astype(np.int32) % 4096]
    fx = np.abs(x / np.float32(pitch) - column - 0.5 + 0.04 * own) * 2
    solid = smoothstep(np.float32(fill) - fx, -0.1, 0.1) * smoothstep(np.float32(1 - gap) - fy, -0.04, 0.04)
    round_top = np.sqrt(np.clip(1 - (fx / np.float32(fill)) ** 2, 0, 1)) * solid
    tone = (0.18 + 0.82 * blurred(solid, 0.5 * u)) * (1 + 0.06 * own + 0.05 * fractal(rng, size, 3 * u, 2))
    albedo = canvas.filled(first, np.clip(tone, 0.02, 2))
    if mixed_colours:
        band = ((np.floor(column / 4) % 2) > 0).astype(np.float32)[..., None]
        albedo = albedo + band * (canvas.filled(second, np.clip(tone, 0.02, 2)) - albedo)
    height = np.float32(0.4 * pitch) * round_top + 0.1 * u * white(rng, size)
    return surface(canvas, albedo, height, np.float32(sheen) * solid, grain=angle + math.pi / 2)
