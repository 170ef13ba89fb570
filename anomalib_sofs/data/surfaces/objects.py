# SPDX-License-Identifier: Apache-2.0
"""Structured objects: circuit boards and arrays of parts."""

import math

import cv2
import numpy as np
from numpy.random import Generator

from .metals import PAINTS, STEELS, toned
from .minerals import RESINS
from .noise import (
    Array,
    between,
    blurred,
    chance,
    coordinates,
    fractal,
    log_between,
    smooth,
    smoothstep,
    white,
)
from .scene import Canvas, Scene, mixed, surface

MASKS = (
    (0.08, 0.32, 0.16),
    (0.05, 0.15, 0.38),
    (0.4, 0.08, 0.08),
    (0.1, 0.1, 0.11),
    (0.5, 0.42, 0.15),
    (0.75, 0.76, 0.74),
)


def board(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """Circuit board: traces and pads under solder mask, rows of parts, vias, white print."""
    u, (h, w) = canvas.unit, canvas.size
    mask, metal = toned(st, MASKS), toned(st, ((0.75, 0.74, 0.7), (0.8, 0.62, 0.3), (0.6, 0.6, 0.6)))
    lift, line, step = between(st, 1.15, 1.9), between(st, 1.2, 3.5) * u, log_between(st, 12, 26) * u
    body, sheen = toned(st, ((0.08, 0.08, 0.08), (0.62, 0.5, 0.36), (0.25, 0.25, 0.27))), between(st, 0.03, 0.25)
    layers = {name: np.zeros((h, w), np.uint8) for name in ("trace", "pad", "part", "ink")}
    columns, rows = math.ceil(w / step) + 1, math.ceil(h / step) + 1
    # The layout is the style's: the same board lies under every seed.
    for _ in range(int(st.integers(8, 20))):
        p = np.array([st.integers(columns), st.integers(rows)])
        path = [p]
        for _ in range(3):
            d = np.array([(1, 0), (0, 1), (1, 1), (-1, 1), (-1, 0)][int(st.integers(5))]) * int(st.integers(1, 6))
            path.append(path[-1] + d)
        points = np.round(np.array(path) * step).astype(np.int32).reshape(-1, 1, 2)
        cv2.polylines(
            layers["trace"], [points], isClosed=False, color=255, thickness=max(1, round(line)), lineType=cv2.LINE_AA
        )
        for end in (path[0], path[-1]):
            cv2.circle(
                layers["pad"], (int(end[0] * step), int(end[1] * step)), max(1, round(1.5 * line)), 255, -1, cv2.LINE_AA
            )
            cv2.circle(
                layers["trace"],
                (int(end[0] * step), int(end[1] * step)),
                max(1, round(2.0 * line)),
                255,
                -1,
                cv2.LINE_AA,
            )
    anchors = []
    for _ in range(int(st.integers(3, 9))):
        cx, cy = int(st.integers(1, columns) * step), int(st.integers(1, rows) * step)
        kind, flip = int(st.integers(3)), chance(st, 0.5)
        a, b = ((0.5, 0.28), (0.9, 0.45), (1.6, 1.4))[kind]
        half = np.array([a, b]) * step
        pins = 1 if kind < 2 else int(st.integers(3, 7))
        for k in range(pins):
            off = (k - (pins - 1) / 2) * 2 * half[1] / max(pins, 1) * 0.9
            for side in (-1, 1):
                along, thick = (
                    half[0] * side,
                    (0.35 * half[0] if kind < 2 else 0.3 * half[0], half[1] if kind < 2 else 0.45 * half[1] / pins),
                )
                c = (along, off) if not flip else (off, along)
                t = thick if not flip else thick[::-1]
                _box(layers["pad"], cx + c[0], cy + c[1], t[0], t[1])
        ha, hb = (half[0], half[1]) if not flip else (half[1], half[0])
        _box(layers["part"], cx, cy, ha * (0.75 if not flip else 1.0), hb * (1.0 if not flip else 0.75))
        anchors.append((cx, cy, ha * 1.15, hb * 1.15))
        text = "RCUQLD"[int(st.integers(6))] + str(int(st.integers(1, 99)))
        cv2.putText(
            layers["ink"],
            text,
            (int(cx - ha), int(cy - hb - 2 * u)),
            0,
            0.32 * u,
            255,
            max(1, round(0.7 * u)),
            cv2.LINE_AA,
        )
    matrix = np.asarray(cv2.getRotationMatrix2D((w / 2, h / 2), 0.9 * float(rng.normal()), 1.0), np.float64)
    matrix[:, 2] += 4 * u * rng.normal(size=2)
    trace, pad, part, ink = (_moved(layer, matrix, canvas) for layer in layers.values())
    albedo = canvas.filled(
        mask, 1 + 0.015 * fractal(rng, canvas.size, 5 * u, 2) + 0.04 * smooth(rng, canvas.size, 60 * u)
    )
    albedo = albedo * (1 + np.float32(lift - 1) * trace)[..., None]
    albedo = mixed(albedo, canvas.colour((0.9, 0.9, 0.88)), 0.9 * ink * (1 - pad))
    albedo = mixed(albedo, canvas.colour(metal), pad)
    albedo = mixed(albedo, canvas.colour(body), part)
    soft = blurred(pad, 1.2 * u)
    height = (
        0.8 * u * blurred(trace, 0.8 * u)
        + 2.2 * u * soft * (1 + 0.2 * smooth(rng, canvas.size, 6 * u))
        + 4 * u * blurred(part, 0.7 * u)
    )
    height = height + 0.025 * u * fractal(rng, canvas.size, 4 * u, 2)
    scene = surface(canvas, albedo, height, np.float32(sheen) + 0.35 * pad * (1 - part))
    here = np.array(anchors, np.float32).reshape(-1, 4)
    here[:, :2] = here[:, :2] @ matrix[:, :2].T.astype(np.float32) + matrix[:, 2].astype(np.float32)
    scene.anchors, scene.substrate = here, canvas.colour(mask)
    return scene


def _box(layer: np.ndarray, x: float, y: float, a: float, b: float) -> None:
    """Fill an axis-parallel box of half sizes ``a`` and ``b``."""
    cv2.rectangle(layer, (round(x - a), round(y - b)), (round(x + a), round(y + b)), 255, -1)


def _moved(layer: np.ndarray, matrix: np.ndarray, canvas: Canvas) -> Array:
    """Return a drawn layer turned and shifted as a 0..1 field."""
    return np.asarray(cv2.warpAffine(layer, matrix, (canvas.size[1], canvas.size[0])), np.float32) * np.float32(1 / 255)


def array_of_parts(st: Generator, rng: Generator, canvas: Canvas) -> Scene:
    """Keys, pins, lamps or cells: one element repeated on a lattice, each a little different."""
    u, (h, w) = canvas.unit, canvas.size
    ground, top = toned(st, PAINTS + STEELS), toned(st, RESINS + STEELS)
    pitch, ratio = log_between(st, 18, 64) * u, between(st, 0.6, 1.0)
    fill, corner, rise = between(st, 0.28, 0.44), between(st, 0.05, 0.5), between(st, 1.5, 5) * u
    dome, mark, angle = chance(st, 0.5), chance(st, 0.5), 0.02 * float(rng.normal())
    spread, sheen = log_between(st, 0.01, 0.06), between(st, 0.05, 0.4)
    origin = (w / 2 + pitch * 0.4 * rng.normal(), h / 2 + pitch * 0.4 * rng.normal())
    x, y = coordinates(canvas.size, origin, angle)
    step = (np.float32(pitch), np.float32(pitch * ratio))
    i, j = np.round(x / step[0]), np.round(y / step[1])
    own = rng.normal(size=(2, 4096)).astype(np.float32)
    number = ((i.astype(np.int32) * 71 + j.astype(np.int32)) % 4096).astype(np.int32)
    dx, dy = x - i * step[0] + own[0][number] * np.float32(0.3 * u), y - j * step[1]
    half = (fill * pitch, fill * pitch * ratio)
    round_off = min(half) * min(2 * corner, 1.0)
    qx, qy = np.abs(dx) - np.float32(half[0] - round_off), np.abs(dy) - np.float32(half[1] - round_off)
    depth = np.float32(round_off) - np.hypot(np.maximum(qx, 0), np.maximum(qy, 0)) - np.minimum(np.maximum(qx, qy), 0)
    body = np.clip(depth + 0.5, 0, 1)
    shape = smoothstep(depth, -0.5, 0.6 * min(half)) if dome else smoothstep(depth, -0.5, 2 * u)
    tone = 1 + np.float32(spread) * own[1][number] + 0.015 * fractal(rng, canvas.size, 4 * u, 2)
    albedo = mixed(
        canvas.filled(ground, 1 + 0.04 * fractal(rng, canvas.size, 8 * u, 3)),
        np.zeros(1, np.float32),
        0.5 * smoothstep(depth, -3 * u, 0) * (1 - body),
    )
    albedo = albedo + body[..., None] * (canvas.filled(top, tone) - albedo)
    if mark:
        spot = np.maximum(np.abs(dx) - np.float32(0.3 * half[0]), np.abs(dy) - np.float32(0.12 * half[1]))
        albedo = mixed(
            albedo,
            canvas.colour((0.9, 0.9, 0.9) if top.mean() < 0.5 else (0.1, 0.1, 0.1)),
            np.clip(0.5 - spot, 0, 1) * 0.8,
        )
    scene = surface(
        canvas,
        albedo,
        np.float32(rise) * shape + 0.08 * u * white(rng, canvas.size),
        np.float32(sheen) * (0.3 + 0.7 * body),
        grain=angle,
    )
    c, s = math.cos(angle), math.sin(angle)
    anchors = [
        (origin[0] + c * a * step[0] - s * b * step[1], origin[1] + s * a * step[0] + c * b * step[1],
         half[0] + u, half[1] + u)
        for a in range(-9, 10) for b in range(-14, 15)
    ]  # fmt: skip
    scene.anchors = np.array([a for a in anchors if 6 < a[0] < w - 6 and 6 < a[1] < h - 6], np.float32).reshape(-1, 4)
    scene.substrate = canvas.colour(ground)
    return scene
