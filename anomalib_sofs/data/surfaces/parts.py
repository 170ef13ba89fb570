# SPDX-License-Identifier: Apache-2.0
"""Single parts with an outline of their own: tablets, rings, kernels, cables."""

import math

import numpy as np
from numpy.random import Generator

from .layout import disc, plate, standing
from .metals import STEELS, toned
from .minerals import RESINS
from .noise import (
    between,
    blurred,
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
from .scene import Canvas, Patch, Scene, mixed, surface

DOUGHS = ((0.75, 0.55, 0.3), (0.85, 0.75, 0.55), (0.5, 0.3, 0.18), (0.8, 0.5, 0.3), (0.62, 0.6, 0.4), (0.9, 0.88, 0.82))


def tablets(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """Several tablets, sweets or capsules of one kind on a tray."""
    u, (h, w) = canvas.unit, canvas.size
    colour, second = toned(st, DOUGHS + RESINS), toned(st, RESINS)
    across, stretch, two = between(st, 26, 52) * u, float(st.choice([1.0, 1.0, 1.5, 2.2])), chance(st, 0.3)
    dome, groove, turn = between(st, 0.3, 1.0), chance(st, 0.4), between(st, 0.0, 1.5)
    speckle, sheen, rough = log_between(st, 0.01, 0.1), between(st, 0.02, 0.4), log_between(st, 0.01, 0.18)
    backdrop_seed = st.spawn(1)[0]
    depth = np.full(canvas.size, -1e3, np.float32)
    shape, pattern = np.zeros(canvas.size, np.float32), np.zeros(canvas.size, np.float32)
    pitch = 2 * across * math.sqrt(stretch) * 1.15
    for row in range(math.ceil(h / pitch) + 1):
        for column in range(math.ceil(w / pitch) + 1):
            centre = (
                (column + 0.3) * pitch + 0.08 * pitch * rng.normal(),
                (row + 0.3) * pitch + 0.08 * pitch * rng.normal(),
            )
            angle = turn * float(rng.normal())
            half = (across * math.sqrt(stretch), across / math.sqrt(stretch))
            # Drawn in a window with room for the shadow: the whole frame for each costs too much.
            patch = Patch.around(canvas, *centre, max(half) + 24 * u)
            own = plate(Canvas(patch.size, canvas.grey), patch.centre, half, min(half), angle)
            at = (patch.rows, patch.columns)
            closer = own > depth[at]
            cap = np.sqrt(np.clip(1 - (1 - own / np.float32(min(half))).clip(0, 1) ** 2, 0, 1))
            x, _ = patch.axes(angle)
            mark = smoothstep(x, -0.5, 0.5) if two else (1 - smoothstep(np.abs(x), 0.5 * u, 2 * u)) * float(groove)
            for whole, one in ((depth, own), (shape, cap), (pattern, mark)):
                np.copyto(whole[at], one, where=closer)
    tone = 1 + np.float32(speckle) * fractal(rng, canvas.size, 2.5 * u, 2) + 0.02 * fractal(rng, canvas.size, 30 * u, 2)
    albedo = canvas.filled(colour, tone)
    height = np.float32(dome * 0.35 * across) * shape + np.float32(rough * u) * fractal(rng, canvas.size, 3 * u, 2)
    if two:
        albedo = mixed(albedo, canvas.colour(second), pattern)
    else:
        height = height - 1.5 * u * pattern
    return standing(surface(canvas, albedo, height, sheen), canvas, depth, backdrop_seed, rng)


def ring(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """Washer, gasket, bottle mouth, bearing: concentric steps, perhaps an open middle."""
    u, (h, w) = canvas.unit, canvas.size
    colour = toned(st, STEELS + RESINS + ((0.12, 0.12, 0.12),))
    outer, inner = between(st, 0.36, 0.48) * min(h, w), between(st, 0.12, 0.3) * min(h, w)
    steps, turned_marks, sheen = int(st.integers(0, 4)), log_between(st, 0.01, 0.25), between(st, 0.03, 0.4)
    where, rises, tones = st.random(4), st.uniform(-3, 3, 4), st.uniform(0.75, 1.2, 4)
    holes, backdrop_seed = int(st.choice([0, 0, 4, 6])), st.spawn(1)[0]
    centre = (w / 2 + 5 * u * rng.normal(), h / 2 + 5 * u * rng.normal())
    x, y = coordinates(canvas.size, centre)
    r = np.sqrt(x * x + y * y)
    line = blurred(white(rng, (1, math.ceil(float(r.max())) + 2)), 0.8 * u).ravel()
    marks = line[r.astype(np.int32)]
    tone = (
        1
        + np.float32(turned_marks) * marks
        + 0.04 * fractal(rng, canvas.size, 30 * u, 3)
        + 0.02 * white(rng, canvas.size)
    )
    height = np.float32(turned_marks * 1.5 * u) * marks + 0.1 * u * fractal(rng, canvas.size, 4 * u, 2)
    for k in range(steps):
        beyond = smoothstep(r, *(inner + where[k] * (outer - inner) + np.array([-1.5, 1.5]) * u))
        height, tone = height + np.float32(rises[k] * u) * beyond, tone * (1 + np.float32(tones[k] - 1) * beyond)
    depth = np.minimum(np.float32(outer) - r, r - np.float32(inner))
    start = 6.3 * rng.random()
    for k in range(holes):
        a, middle = start + k * 2 * math.pi / holes, (outer + inner) / 2
        hole = disc(
            canvas, (centre[0] + middle * math.cos(a), centre[1] + middle * math.sin(a)), 0.16 * (outer - inner)
        )
        depth = np.minimum(depth, -hole)
    return standing(
        surface(canvas, canvas.filled(colour, np.clip(tone, 0.1, 2)), height, sheen), canvas, depth, backdrop_seed, rng
    )


def kernel(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """One grown or baked thing: nut, bean, biscuit; organic outline, domed, mottled."""
    u, (h, w) = canvas.unit, canvas.size
    colour, stretch = toned(st, DOUGHS), between(st, 1.0, 1.7)
    radius, lumpy, bend = between(st, 0.3, 0.4) * min(h, w), between(st, 0.02, 0.12), between(st, 0.0, 0.5)
    mottle, rough, dome = log_between(st, 0.03, 0.18), log_between(st, 0.05, 0.8), between(st, 0.2, 0.6)
    grooves, sheen, backdrop_seed = between(st, 0.0, 0.2), between(st, 0.02, 0.3), st.spawn(1)[0]
    angle = float(rng.normal()) * 0.5
    x, y = coordinates(canvas.size, (w / 2 + 6 * u * rng.normal(), h / 2 + 6 * u * rng.normal()), angle)
    y = y + np.float32(bend / radius) * x * x * np.float32(0.6)
    theta = np.arctan2(y * np.float32(stretch), x)
    rim = np.ones_like(x)
    for k in range(2, 6):
        rim = rim + np.float32(lumpy / k * 2 * rng.normal()) * np.cos(k * theta + np.float32(6.3 * rng.random()))
    rho = np.hypot(x, y * np.float32(stretch)) / (rim * np.float32(radius * 1.1))
    depth = (1 - rho) * np.float32(radius)
    cap = np.sqrt(np.clip(1 - rho * rho, 0, 1))
    skin = fractal(rng, canvas.size, 5 * u, 3, 0.7)
    furrow = streaks(rng, canvas.size, angle, 60 * u, 5 * u)
    tone = (
        1 + np.float32(mottle) * fractal(rng, canvas.size, 45 * u, 5, 0.65) + np.float32(grooves) * furrow + 0.04 * skin
    )
    albedo = canvas.filled(colour, np.clip(tone, 0.15, 2))
    height = np.float32(dome * radius * 0.6) * cap + np.float32(rough * u) * (0.6 * skin + 3 * grooves * furrow)
    return standing(surface(canvas, albedo, height, sheen, grain=angle), canvas, depth, backdrop_seed, rng)


def cable(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """Cross-section of a cable, or a bundle of fibres: strands packed in coloured jackets."""
    u, (h, w) = canvas.unit, canvas.size
    jacket, strand_colour = toned(st, RESINS), toned(st, ((0.72, 0.45, 0.25), (0.7, 0.7, 0.7), (0.9, 0.9, 0.85)))
    inner = [toned(st, RESINS) for _ in range(3)]
    cores, pitch = int(st.choice([1, 3, 3])), log_between(st, 7, 16) * u
    outer, sheen, backdrop_seed = between(st, 0.4, 0.48) * min(h, w), between(st, 0.1, 0.5), st.spawn(1)[0]
    centre = (w / 2 + 4 * u * rng.normal(), h / 2 + 4 * u * rng.normal())
    depth = disc(canvas, centre, outer)
    albedo = canvas.filled(jacket, 1 + 0.05 * fractal(rng, canvas.size, 4 * u, 3))
    height = np.float32(0.25 * u) * fractal(rng, canvas.size, 3 * u, 2) + 2 * u * smoothstep(depth, 0, 4 * u)
    gloss = np.full(canvas.size, 0.05, np.float32)
    spin = 0.15 * float(rng.normal())
    x, y = coordinates(canvas.size, centre, spin)
    row = np.round(y / np.float32(0.87 * pitch))
    fx = x / np.float32(pitch) + 0.5 * (row % 2)
    sway = 0.12 * smooth(rng, canvas.size, 2 * pitch)
    d = np.hypot(fx - np.round(fx) + sway, (y / np.float32(0.87 * pitch) - row) * 0.87 + sway)
    own = rng.normal(size=4096).astype(np.float32)[((np.round(fx) * 67 + row).astype(np.int32)) % 4096]
    strand = smoothstep(d, 0.5, 0.42)
    wires = canvas.filled(strand_colour, (0.12 + strand) * (1 + 0.1 * own))
    for k in range(cores):
        a = spin - math.pi / 2 + k * 2 * math.pi / cores
        far = 0.0 if cores == 1 else 0.49 * outer
        at = (centre[0] + far * math.cos(a), centre[1] + far * math.sin(a))
        size = outer * (0.8 if cores == 1 else 0.4)
        sheath, bundle = np.clip(disc(canvas, at, size) + 0.5, 0, 1), np.clip(disc(canvas, at, 0.72 * size) + 0.5, 0, 1)
        albedo = mixed(albedo, canvas.colour(inner[k]), sheath)
        albedo = albedo + bundle[..., None] * (wires - albedo)
        height = (
            height
            + u * blurred(sheath, u)
            + bundle * np.float32(0.25 * pitch) * strand * np.sqrt(np.clip(1 - 3.5 * d * d, 0, 1))
        )
        gloss = gloss + np.float32(sheen) * bundle
    albedo = albedo * (1 + 0.05 * turned(streaks(rng, canvas.size, 0.8, 60 * u, 2 * u), 0.0, canvas.size))[..., None]
    return standing(surface(canvas, albedo, height, gloss), canvas, depth, backdrop_seed, rng)
