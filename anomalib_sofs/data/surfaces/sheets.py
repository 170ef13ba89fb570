# SPDX-License-Identifier: Apache-2.0
"""Paper and print: sheets, labels, ink."""

import math

import cv2
import numpy as np
from numpy.random import Generator

from .fibres import wandering
from .metals import direction, toned
from .noise import (
    Array,
    between,
    fractal,
    log_between,
    strokes,
    white,
)
from .scene import Canvas, Scene, mixed, surface

SHEETS = ((0.9, 0.89, 0.86), (0.72, 0.58, 0.4), (0.8, 0.78, 0.7), (0.62, 0.62, 0.6), (0.85, 0.8, 0.65))


def paper(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """Paper, card, fleece: cloudy sheet with fibres; some are ruled, corrugated or printed."""
    u, size = canvas.unit, canvas.size
    colour, cloud, kind, rough = (
        toned(st, SHEETS),
        log_between(st, 0.01, 0.06),
        int(st.integers(4)),
        log_between(st, 0.01, 0.2),
    )
    grit, pitch, angle, strength = (
        log_between(st, 0.01, 0.05),
        log_between(st, 6, 24) * u,
        direction(st, rng),
        between(st, 0.03, 0.12),
    )
    ink = toned(st, ((0.1, 0.1, 0.12), (0.1, 0.2, 0.5), (0.6, 0.1, 0.1), (0.1, 0.35, 0.2)))
    tone = 1 + np.float32(cloud) * fractal(rng, size, 14 * u, 4) + np.float32(grit) * white(rng, size)
    height = np.float32(rough * u) * fractal(rng, size, 4 * u, 2)
    _, y = wandering(rng, canvas, angle, 0.03 * pitch, 60 * u)
    wave = np.sin(y * np.float32(2 * math.pi / pitch))
    if kind == 1:
        tone, height = tone + np.float32(strength) * wave, height + np.float32(0.12 * pitch) * wave
    albedo = canvas.filled(colour, tone)
    paths = [
        np.array([[cx + t * r * math.cos(a), cy + t * r * math.sin(a) + b * t * t, 0.6 * u, s]
                  for t in (-1, -0.4, 0.4, 1)])
        for cx, cy, a, r, b, s in zip(
            rng.random(24) * size[1], rng.random(24) * size[0], rng.random(24) * 6.3, 5 * u + 6 * u * rng.random(24),
            4 * u * rng.normal(size=24), 0.1 + 0.25 * rng.random(24), strict=True,
        )
    ]  # fmt: skip
    albedo = albedo * (1 - 0.5 * strokes(size, paths))[..., None]
    if kind >= 2:
        albedo = mixed(albedo, canvas.colour(ink), printed(st, rng, canvas, blocks=kind == 3) * np.float32(0.85))
    return surface(canvas, albedo, height, 0.02, grain=angle)


def printed(st: Generator, rng: Generator, canvas: Canvas, *, blocks: bool) -> Array:
    """Return the ink coverage ``(H, W)`` of a label: lines of text, or bars and blocks."""
    h, w = canvas.size
    u = canvas.unit
    page = np.zeros((h, w), np.uint8)
    scale, face = between(st, 0.3, 0.8), int(st.choice([0, 2, 3, 4]))
    letters = np.array(list("ABCDEFGHKLMNPRSTUVXZ0123456789-/."))
    words = ["".join(st.choice(letters, int(st.integers(5, 18)))) for _ in range(20)]
    gap, left, top = int(between(st, 34, 60) * scale * u), int(between(st, 5, 60) * u), int(between(st, 15, 90) * u)
    bars = st.integers(1, 7, 60)
    for row in range(int(st.integers(1, 5))):
        where = (left, top + row * gap)
        if blocks and row % 2 == 0:
            edges = left + np.cumsum(bars) * u * 0.8
            for a, b in zip(edges[::2], edges[1::2], strict=True):
                cv2.rectangle(page, (int(a), where[1]), (int(b), where[1] + int(0.8 * gap)), 255, -1)
        else:
            cv2.putText(page, words[row], where, face, scale * u, 255, max(1, round(1.4 * u * scale)), cv2.LINE_AA)
    c, s = math.cos(0.03 * rng.normal()), math.sin(0.03 * rng.normal())
    matrix = np.array([[c, s, 8 * u * rng.normal()], [-s, c, 8 * u * rng.normal()]])
    return np.asarray(cv2.warpAffine(page, matrix, (w, h)), np.float32) * np.float32(1 / 255)
