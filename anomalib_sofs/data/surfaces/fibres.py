# SPDX-License-Identifier: Apache-2.0
"""Surfaces of fibres and skins: cloth, carpet, felt, leather, paper, wood, board."""

import numpy as np
from numpy.random import Generator

from .metals import direction, toned
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

DYES = (
    (0.8, 0.78, 0.72), (0.2, 0.24, 0.36), (0.5, 0.48, 0.45), (0.55, 0.2, 0.18), (0.62, 0.52, 0.38),
    (0.14, 0.14, 0.14), (0.35, 0.45, 0.4), (0.7, 0.68, 0.66),
)  # fmt: skip
HIDES = (
    (0.42, 0.26, 0.15),
    (0.16, 0.13, 0.12),
    (0.6, 0.45, 0.3),
    (0.5, 0.16, 0.12),
    (0.75, 0.7, 0.62),
    (0.3, 0.32, 0.35),
)
TIMBERS = ((0.7, 0.52, 0.34), (0.55, 0.36, 0.2), (0.8, 0.68, 0.5), (0.4, 0.26, 0.16), (0.64, 0.56, 0.45))


def wandering(rng: Generator, canvas: Canvas, angle: float, amount: float, scale: float) -> tuple[Array, Array]:
    """Return turned coordinates that sway by ``amount`` pixels over ``scale`` pixels."""
    h, w = canvas.size
    x, y = coordinates(canvas.size, (w / 2 + 20 * rng.normal(), h / 2 + 20 * rng.normal()), angle)
    return x + np.float32(amount) * smooth(rng, canvas.size, scale), y + np.float32(amount) * smooth(
        rng, canvas.size, scale
    )


def woven_fabric(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """Plain, twill or basket weave: rounded yarns over and under, uneven in thickness."""
    u, size = canvas.unit, canvas.size
    warp, weft = toned(st, DYES), toned(st, DYES)
    same = chance(st, 0.65)
    pitch, kind, angle = log_between(st, 3.5, 12) * u, int(st.integers(3)), direction(st, rng) + 0.02 * rng.normal()
    relief, slub, sway = log_between(st, 0.25, 0.6), log_between(st, 0.03, 0.12), between(st, 0.05, 0.35)
    x, y = wandering(rng, canvas, float(angle), sway * pitch, 12 * pitch)
    i, j = np.floor(x / np.float32(pitch)), np.floor(y / np.float32(pitch))
    fx, fy = x / np.float32(pitch) - i - 0.5, y / np.float32(pitch) - j - 0.5
    step = {0: 1, 1: 1, 2: 2}[kind]
    over = ((i + j) % 4 < 2) if kind == 1 else ((np.floor(i / step) + np.floor(j / step)) % 2 < 1)
    # The yarn on top is a cylinder across its own axis and dives at the crossing's ends.
    across = np.where(over, fx, fy)
    ends = np.where(over, fy, fx)
    dive = 0.25 if kind == 1 else 0.6
    height = np.sqrt(np.clip(1 - (2 * across) ** 2, 0, 1)) - np.float32(dive) * (2 * ends) ** 2
    rows = np.where(over, i, j + 977).astype(np.int32) % 4096
    yarn = 1 + np.float32(slub) * rng.normal(size=4096).astype(np.float32)[rows]
    fuzz = fractal(rng, size, max(1.3, 0.25 * pitch), 2)
    tone = yarn * (1 + 0.06 * fuzz) * (0.72 + 0.28 * np.clip(height, -0.5, 1)) + 0.03 * fractal(rng, size, 50 * u, 2)
    albedo = canvas.filled(warp, tone)
    if not same:
        albedo = mixed(albedo, canvas.colour(weft), 1 - over.astype(np.float32)) * (0.4 + 0.6 * tone[..., None])
    return surface(canvas, albedo, np.float32(relief * 0.35 * pitch) * (height + 0.12 * fuzz), 0.03, grain=float(angle))


def knit(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """Knitted cloth or a brushed carpet of ribs: columns of interlocked V stitches."""
    u, size = canvas.unit, canvas.size
    colour, pitch, angle = toned(st, DYES), log_between(st, 7, 18) * u, direction(st, rng)
    relief, ratio = log_between(st, 0.3, 0.7), between(st, 0.6, 0.9)
    x, y = wandering(rng, canvas, angle, 0.12 * pitch, 8 * pitch)
    fx = x / np.float32(pitch)
    v = np.abs(fx - np.floor(fx) - 0.5) * 2
    fy = y / np.float32(pitch * ratio) - 0.9 * v
    stitch = np.abs(fy - np.floor(fy) - 0.5) * 2
    height = np.sqrt(np.clip(1 - stitch * stitch, 0, 1)) - 0.8 * v**4
    fuzz = fractal(rng, size, max(1.5, 0.2 * pitch), 2)
    tone = (0.65 + 0.3 * np.clip(height, -0.6, 1)) * (1 + 0.1 * fuzz) + 0.04 * fractal(rng, size, 60 * u, 2)
    return surface(
        canvas,
        canvas.filled(colour, np.clip(tone, 0.05, 2)),
        np.float32(relief * 0.3 * pitch) * (height + 0.1 * fuzz),
        0.02,
        grain=angle,
    )


def felt(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """Felt, fleece, carpet pile: matted short fibres in all directions, mottled."""
    u, size = canvas.unit, canvas.size
    colour, thin, length = toned(st, DYES), log_between(st, 1.0, 2.2) * u, log_between(st, 5, 18) * u
    mottle, relief, angle = log_between(st, 0.04, 0.2), log_between(st, 0.3, 1.0), direction(st, rng)
    pile = np.maximum(streaks(rng, size, angle + 0.6, length, thin), streaks(rng, size, angle - 0.7, length, thin))
    pile = np.maximum(pile, streaks(rng, size, angle + 1.6, length, thin)) - 0.8
    tone = 1 + 0.13 * pile + np.float32(mottle) * fractal(rng, size, 12 * u, 3)
    return surface(
        canvas, canvas.filled(colour, np.clip(tone, 0.1, 2)), np.float32(relief * u) * pile, 0.02, grain=angle
    )


def leather(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """Leather and grained skins: pebbles parted by furrows, in patches of denser grain."""
    u, size = canvas.unit, canvas.size
    colour, scale, stretch = toned(st, HIDES), log_between(st, 5, 14) * u, between(st, 1.0, 1.8)
    relief, furrow, sheen = log_between(st, 0.3, 1.2), between(st, 0.05, 0.4), between(st, 0.03, 0.25)
    border, labels, count = cells(rng, size, scale, stretch=stretch)
    ridge = smoothstep(blurred(border, 0.5 * u), 0.0, 0.38 * scale)
    own = rng.normal(size=count).astype(np.float32)[labels]
    ridge *= 1 + 0.25 * smooth(rng, size, 40 * u)
    tone = (
        1
        - np.float32(furrow) * (1 - ridge)
        + 0.03 * own
        + 0.05 * fractal(rng, size, 60 * u, 3)
        + 0.02 * white(rng, size)
    )
    height = np.float32(relief * u) * (1.5 * ridge + 0.1 * own + 0.12 * fractal(rng, size, 3 * u, 2))
    return surface(canvas, canvas.filled(colour, np.clip(tone, 0.1, 2)), height, sheen)


def wood(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """Planed timber or veneer: growth rings cut lengthwise, pores, rays, plank joints."""
    u, size = canvas.unit, canvas.size
    colour, angle, pitch = toned(st, TIMBERS), direction(st, rng), log_between(st, 6, 28) * u
    contrast, pores, planks = log_between(st, 0.06, 0.3), between(st, 0.0, 0.35), chance(st, 0.3)
    wide = between(st, 60, 130) * u
    h, w = size
    x, y = coordinates(size, (w / 2, h / 2 + 40 * u * rng.normal()), angle)
    bend = smooth(rng, size, 150 * u) * np.float32(1.2 * pitch) + streaks(
        rng, size, angle, 160 * u, 30 * u
    ) * np.float32(0.5 * pitch)
    joint = np.zeros(size, np.float32)
    if planks:
        index = np.floor(y / np.float32(wide)).astype(np.int32)
        bend = bend + rng.normal(size=64).astype(np.float32)[index % 64] * np.float32(3 * pitch)
        seam = np.abs(y / np.float32(wide) - np.round(y / np.float32(wide))) * np.float32(wide)
        joint = 1 - smoothstep(seam, 0.3 * u, 1.5 * u)
    cathedral = (x - np.float32(30 * u * rng.normal())) ** 2 * np.float32(log_between(rng, 2e-5, 6e-4) / u)
    ring = (y + bend + cathedral) / np.float32(pitch)
    # Years differ: the rings are bent along their own count.
    years = 0.45 * rng.normal(size=512).astype(np.float32)
    count = np.clip(ring + 256, 0, 510)
    first = count.astype(np.int32)
    ring = ring + years[first] + (count - first) * (years[first + 1] - years[first])
    saw = ring - np.floor(ring)
    late = smoothstep(saw, 0.25, 0.9) * (1 - smoothstep(saw, 0.92, 1.0))
    fibre = streaks(rng, size, angle, 30 * u, 1.2 * u)
    pore = smoothstep(streaks(rng, size, angle, 12 * u, 1.3 * u), 1.5, 2.3)
    tone = (
        1
        - np.float32(contrast) * late
        + 0.04 * fibre
        - np.float32(pores) * pore
        - 0.6 * joint
        + 0.04 * fractal(rng, size, 80 * u, 2)
    )
    height = np.float32(0.09 * u) * (fibre - 2 * pore * np.float32(pores * 3)) - np.float32(2 * u) * joint
    albedo = canvas.filled(colour, np.clip(tone, 0.08, 2))
    if not canvas.grey:
        # Late wood is redder, not only darker.
        albedo = albedo * (1 - late[..., None] * np.array([0.0, 0.06, 0.14], np.float32))
    return surface(canvas, albedo, height, 0.06, grain=angle)


def particle_board(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """Chip and strand board: overlapping flakes of differing tone and direction."""
    u, size = canvas.unit, canvas.size
    colour, scale, spread = toned(st, TIMBERS), log_between(st, 6, 26) * u, between(st, 0.08, 0.25)
    stretch = between(st, 1.0, 2.5)
    first, labels, count = cells(rng, size, scale, stretch=stretch)
    _, over, other = cells(rng, size, 0.8 * scale, stretch=1 / stretch)
    shade = rng.normal(size=count).astype(np.float32)[labels]
    top = rng.random(other).astype(np.float32)[over]
    shade = np.where(top > 0.6, 4 * top - 3.2, shade).astype(np.float32)
    fibre = np.where(top > 0.6, streaks(rng, size, 0.4, 15 * u, 1.2 * u), streaks(rng, size, 2.0, 15 * u, 1.2 * u))
    tone = 1 + np.float32(spread) * blurred(shade, 0.6 * u) + 0.06 * fibre - 0.12 * (1 - smoothstep(first, 0, 2 * u))
    return surface(
        canvas,
        canvas.filled(colour, np.clip(tone, 0.1, 2)),
        np.float32(0.4 * u) * (blurred(shade, 0.8) + 0.4 * fibre),
        0.03,
    )
