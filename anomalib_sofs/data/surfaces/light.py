# SPDX-License-Identifier: Apache-2.0
"""How light turns a scene into a picture: one lamp, a mirror-like share, an uneven field."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

from .noise import Array, between, chance, coordinates, log_between, smooth
from .scene import Canvas, Scene


@dataclass(frozen=True)
class Light:
    """The illumination of one image.

    Attributes:
        x: Where the lamp stands, unit vector along x.
        y: The same along y.
        relief: How strongly slopes show: small for a dome, large for a raking lamp.
        polish: Width of the mirror reflection in units of slope.
        tilt: Slope that mirrors the lamp into the camera.
        field: ``(H, W)`` brightness of the light falling in.
        glare: ``(H, W)`` strength of the mirror reflection.
    """

    x: float
    y: float
    relief: float
    polish: float
    tilt: float
    field: Array
    glare: Array

    def shade(self, scene: Scene, rows: slice = slice(None), columns: slice = slice(None)) -> Array:
        """Return the picture ``(h, w, channels)`` of a scene that fills a window of the frame."""
        height = np.ascontiguousarray(scene.height, np.float32)
        gx = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
        gy = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
        facing = gx * np.float32(-self.x) + gy * np.float32(-self.y)
        # Bounded, as the brightness of a slope is: it saturates towards the lamp, and what
        # is turned away still gets the light of the room.
        bent = facing * np.float32(self.relief)
        towards, away = np.maximum(bent, 0), np.minimum(bent, 0)
        diffuse = (1 + towards / (1 + 0.5 * towards)) / (1 - 1.1 * away)
        ax, ay = gx + np.float32(self.x * self.tilt), gy + np.float32(self.y * self.tilt)
        mirror = cv2.exp((ax * ax + ay * ay) * np.float32(-1 / self.polish**2))
        lit = diffuse * self.field[rows, columns]
        shine = mirror * scene.gloss * self.glare[rows, columns]
        picture = scene.albedo * lit[..., None] + shine[..., None]
        if scene.cover.min() < 1:
            picture = scene.backdrop + scene.cover[..., None] * (picture - scene.backdrop)
        return np.asarray(picture, np.float32)


def lamp(canvas: Canvas, st: Generator, rng: Generator) -> Light:
    """Set up the illumination of a product, and what differs in one image of it."""
    h, w = canvas.size
    kind = str(st.choice(["dome", "raking", "raking", "coaxial", "spot", "spot", "bar"]))
    relief = {"dome": 0.5, "raking": 1.9, "coaxial": 0.8, "spot": 1.1, "bar": 1.4}[kind] * between(st, 0.75, 1.3)
    azimuth = between(st, 0, 2 * math.pi) + 0.12 * float(rng.normal())
    slope, falloff = between(st, 0.0, 0.35), between(st, 0.0, 0.45)
    tilt = between(st, 0.0, 0.15) if kind == "coaxial" else between(st, 0.15, 0.7)
    polish = log_between(st, 0.12, 0.6)
    spot = (between(st, 0.25, 0.75), between(st, 0.25, 0.75), between(st, 0.35, 0.9))
    stripe, banded = between(st, 0, math.pi), chance(st, 0.3)

    x, y = coordinates(canvas.size, (w / 2, h / 2))
    size = np.float32(2 / min(h, w))
    x, y = x * size, y * size
    field = 1 + np.float32(slope * between(rng, 0.3, 1.4)) * (
        np.float32(math.cos(azimuth)) * x + np.float32(math.sin(azimuth)) * y
    )
    if kind == "spot":
        dx, dy = (spot[0] - 0.5) * 2 + 0.1 * rng.normal(), (spot[1] - 0.5) * 2 + 0.1 * rng.normal()
        field *= np.float32(1 - 0.6 * falloff) + np.float32(falloff) * cv2.exp(
            ((x - np.float32(dx)) ** 2 + (y - np.float32(dy)) ** 2) * np.float32(-1 / spot[2] ** 2)
        )
    else:
        field *= 1 - np.float32(0.4 * falloff) * (x * x + y * y)
    if kind == "bar" and banded:
        across = np.float32(math.cos(stripe)) * x + np.float32(math.sin(stripe)) * y
        field *= 1 + np.float32(0.5 * falloff) * np.cos(
            across * np.float32(between(rng, 3, 4)) + np.float32(0.4 * rng.normal())
        )
    field *= 1 + np.float32(0.05) * smooth(rng, canvas.size, 0.6 * min(h, w))
    np.clip(field, 0.06, 2.5, out=field)
    return Light(
        math.cos(azimuth), math.sin(azimuth), relief, polish, tilt, field, field * np.float32(between(st, 0.6, 1.3))
    )
