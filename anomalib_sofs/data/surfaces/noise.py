# SPDX-License-Identifier: Apache-2.0
"""Noise and texture primitives: everything random a surface or a defect is built of.

All fields are made as float32 (mixtures may be wider), all lengths are pixels, all angles radians (0 = along x). Fields
are made at the resolution of their detail and then enlarged, which is what keeps one
render within milliseconds.
"""

import hashlib
import math
from typing import TypeAlias

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.floating]
Size: TypeAlias = tuple[int, int]


def generator(*key: object) -> Generator:
    """Return the generator that belongs to a key, the same in every process."""
    text = "\x1f".join(map(str, key))
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(int.from_bytes(digest))))


def between(rng: Generator, low: float, high: float) -> float:
    """Draw uniformly between two bounds."""
    return low + (high - low) * float(rng.random())


def log_between(rng: Generator, low: float, high: float) -> float:
    """Draw log-uniformly between two positive bounds: every order of size is as likely."""
    return math.exp(between(rng, math.log(low), math.log(high)))


def chance(rng: Generator, probability: float) -> bool:
    """Draw True with a probability."""
    return bool(rng.random() < probability)


def smoothstep(x: Array, low: float, high: float) -> Array:
    """Map ``low..high`` to 0..1 with flat ends."""
    t = np.clip((x - low) * (1.0 / (high - low)), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t))


def resized(field: Array, size: Size, interpolation: int = cv2.INTER_CUBIC) -> Array:
    """Resample a field to ``size`` (rows, columns)."""
    return np.asarray(cv2.resize(field, (size[1], size[0]), interpolation=interpolation), np.float32)


def blurred(field: Array, sigma: float) -> Array:
    """Blur a field with a Gaussian; a sigma under a quarter pixel changes nothing."""
    if sigma < 0.25:
        return field
    return np.asarray(cv2.GaussianBlur(field, (0, 0), sigma), np.float32)


def white(rng: Generator, size: Size) -> Array:
    """Return white Gaussian noise of unit variance."""
    return rng.standard_normal(size, dtype=np.float32)


def smooth(rng: Generator, size: Size, scale: float) -> Array:
    """Return noise of about unit variance that varies over ``scale`` pixels."""
    if scale <= 1.2:
        return white(rng, size)
    grid = (max(2, math.ceil(size[0] / scale) + 1), max(2, math.ceil(size[1] / scale) + 1))
    return resized(white(rng, grid) * np.float32(1.3), size)


def fractal(rng: Generator, size: Size, scale: float, octaves: int = 4, gain: float = 0.62) -> Array:
    """Return noise of about unit variance with detail from ``scale`` down over octaves.

    The octaves are added coarse to fine while the field is doubled, so the cost is that
    of the finest octave only.
    """
    field: Array | None = None
    weight, total = 1.0, 0.0
    for octave in range(octaves):
        cell = scale / 2**octave
        last = octave == octaves - 1 or cell < 2
        rows, columns = (math.ceil(n / max(cell, 1.0)) + 1 for n in size)
        layer = white(rng, (max(2, rows), max(2, columns))) * np.float32(weight)
        field = layer if field is None else resized(field, (layer.shape[0], layer.shape[1])) + layer
        total += weight * weight
        weight *= gain
        if last:
            break
    if field is None:
        return white(rng, size)
    return resized(field, size) * np.float32(1.25 / math.sqrt(total))


def turned(field: Array, angle: float, size: Size) -> Array:
    """Rotate a field about its centre and cut ``size`` out of it."""
    c, s = math.cos(angle), math.sin(angle)
    h, w = field.shape[:2]
    x, y = (size[1] - 1) / 2, (size[0] - 1) / 2
    matrix = np.array(
        [[c, s, (w - 1) / 2 - c * x - s * y], [-s, c, (h - 1) / 2 + s * x - c * y]],
        np.float64,
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    turned_field = cv2.warpAffine(field, matrix, (size[1], size[0]), flags=flags, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(turned_field, np.float32)


def streaks(rng: Generator, size: Size, angle: float, length: float, width: float) -> Array:
    """Return noise stretched along ``angle``: about ``length`` by ``width`` pixels a cell."""
    c, s = abs(math.cos(angle)), abs(math.sin(angle))
    box = (math.ceil(size[0] * c + size[1] * s) + 2, math.ceil(size[1] * c + size[0] * s) + 2)
    grid = (max(2, math.ceil(box[0] / max(width, 1.0))), max(2, math.ceil(box[1] / length)))
    return turned(resized(white(rng, grid) * np.float32(1.3), box, cv2.INTER_LINEAR), angle, size)


def coordinates(size: Size, centre: tuple[float, float], angle: float = 0.0) -> tuple[Array, Array]:
    """Return x and y of every pixel relative to ``centre`` (x, y) in turned axes."""
    x = np.arange(size[1], dtype=np.float32)[None, :] - np.float32(centre[0])
    y = np.arange(size[0], dtype=np.float32)[:, None] - np.float32(centre[1])
    c, s = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    return c * x + s * y, c * y - s * x


def cells(rng: Generator, size: Size, scale: float, *, stretch: float = 1.0) -> tuple[Array, NDArray[np.int32], int]:
    """Split the plane into Voronoi cells of about ``scale`` pixels.

    Returns:
        The distance of each pixel to the border of its cell, the cell's number, and one
        more than the largest number.
    """
    step = (max(scale, 2.5), max(scale * stretch, 2.5))
    rows, columns = (math.ceil(n / d) + 2 for n, d in zip(size, step, strict=True))
    spread = rng.random((2, rows, columns), dtype=np.float32)
    y = ((np.arange(rows)[:, None] + spread[0] * 0.9 - 1) * step[0]).ravel()
    x = ((np.arange(columns)[None, :] + spread[1] * 0.9 - 1) * step[1]).ravel()
    # A margin keeps the seeds outside the frame, or its cells would be cut straight.
    pad = math.ceil(max(step))
    seeds = np.full((size[0] + 2 * pad, size[1] + 2 * pad), 255, np.uint8)
    seeds[
        np.clip(y + pad, 0, seeds.shape[0] - 1).astype(np.intp),
        np.clip(x + pad, 0, seeds.shape[1] - 1).astype(np.intp),
    ] = 0
    _, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    labels = np.asarray(labels, np.int32)[pad : pad + size[0], pad : pad + size[1]]
    inside = np.ones(size, np.uint8)
    inside[:, 1:] &= (labels[:, 1:] == labels[:, :-1]).astype(np.uint8)
    inside[1:] &= (labels[1:] == labels[:-1]).astype(np.uint8)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
    return np.asarray(distance, np.float32), labels, int(labels.max()) + 1


def shifted(field: Array, dx: Array, dy: Array) -> Array:
    """Sample a field at ``(x + dx, y + dy)``."""
    h, w = field.shape[:2]
    x = np.arange(w, dtype=np.float32)[None, :] + dx
    y = np.arange(h, dtype=np.float32)[:, None] + dy
    return np.asarray(cv2.remap(field, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), np.float32)


def strokes(size: Size, paths: list[NDArray[np.float64]]) -> Array:
    """Draw tapering lines and return their coverage, 0..1.

    Args:
        size: Rows and columns of the field.
        paths: One ``(n, 4)`` array a line: x, y, width in pixels, strength 0..1.
    """
    # Drawn four times too large and averaged: cv2 has no lines thinner than a pixel.
    zoom = 4 if size[0] * size[1] <= 400 * 400 else 2
    board = np.zeros((size[0] * zoom, size[1] * zoom), np.uint8)
    for path in paths:
        points = np.round((path[:, :2] + 0.5) * zoom * 16).astype(int).tolist()
        for i in range(len(points) - 1):
            thickness = max(1, round(float(path[i, 2]) * zoom))
            cv2.line(board, points[i], points[i + 1], int(255 * path[i, 3]), thickness, cv2.LINE_8, 4)
    area = cv2.resize(board, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(area, np.float32) * np.float32(1 / 255)
