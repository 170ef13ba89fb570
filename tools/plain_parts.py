"""Plain parts with marks of one kind: what a renderer of materials never shows, and cameras on a line often see."""

import math
import random
from typing import NamedTuple

import cv2
import numpy as np

SHAPES = ("speck", "patch", "line", "ring")
SIDES = ((96, 128), (128, 128), (128, 160), (160, 160), (192, 256), (256, 256))
"""Sides of their pictures in pixels."""


class Mark(NamedTuple):
    """A mark as it is drawn on every part of a kind, up to a little variety."""

    shape: str
    size: float  # pixels
    angle: float
    colour: tuple[float, ...]  # added, blue to red


def mark(rng: random.Random) -> Mark:
    """Draw what marks of a kind look like."""
    strength = rng.choice((-1, 1)) * rng.uniform(0.1, 0.5)
    colour = tuple(strength * rng.uniform(0.6, 1) for _ in range(3)) if rng.random() < 0.3 else (strength,) * 3
    return Mark(rng.choice(SHAPES), rng.uniform(3, 14), rng.uniform(0, math.pi), colour)


class Kind:
    """Plain parts of one kind, with defects of one class, and perhaps a mark that each of them is to have.

    Args:
        rng: What is drawn.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.size = rng.choice(SIDES)
        self.tone = np.array(
            [rng.uniform(0.15, 0.85)] * 3 if rng.random() < 0.6 else [rng.uniform(0.15, 0.85) for _ in "bgr"]
        )
        self.noise = rng.choice((0.0, 0.005, 0.01, 0.02, 0.03, 0.05))
        self.grain = rng.choice((0.0, 0.0, 0.7, 1.5))
        self.defect = mark(rng)
        self.usual = mark(rng) if rng.random() < 0.4 else None
        self.turned = rng.random() < 0.5  # whether defects lie in any direction

    def picture(self, *, good: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return image ``(H, W, 3)`` and mask ``(H, W)``, both 8 bit, of another part."""
        rng, (h, w) = self.rng, self.size
        noise = np.random.default_rng(rng.getrandbits(32)).normal(0, 1, (h, w, 1)).astype(np.float32)
        if self.grain:
            noise = cv2.GaussianBlur(noise, (0, 0), self.grain)[..., None]
            noise /= noise.std()
        image = self.tone.astype(np.float32) + self.noise * noise
        if self.usual is not None:
            image = self._drawn(image, self.usual)[0]
        mask = np.zeros((h, w), np.uint8)
        for _ in range(0 if good else rng.choice((1, 1, 1, 2, 3))):
            image, drawn = self._drawn(image, self.defect)
            mask |= drawn
        return (np.clip(image, 0, 1) * 255).round().astype(np.uint8), mask

    def _drawn(self, image: np.ndarray, mark: Mark) -> tuple[np.ndarray, np.ndarray]:
        rng, (h, w) = self.rng, self.size
        cover = np.zeros((4 * h, 4 * w), np.uint8)  # four times as large, for smooth borders
        size = 4 * mark.size * rng.uniform(0.8, 1.25)
        angle = rng.uniform(0, math.pi) if self.turned else mark.angle + rng.uniform(-0.15, 0.15)
        y, x = rng.uniform(0.1, 0.9) * 4 * h, rng.uniform(0.1, 0.9) * 4 * w
        centre = (round(x), round(y))
        if mark.shape == "line":
            reach = size * rng.uniform(3, 8) / 2
            step = np.array([math.cos(angle), math.sin(angle)]) * reach
            ends = [tuple(int(v) for v in np.array(centre) + sign * step) for sign in (-1, 1)]
            cv2.line(cover, ends[0], ends[1], 255, max(4, round(size / 3)), cv2.LINE_8)
        elif mark.shape == "patch":
            box = cv2.boxPoints((centre, (size * rng.uniform(0.8, 2), size), math.degrees(angle)))
            cv2.fillPoly(cover, [box.astype(np.int32)], 255)
        else:
            axes = (round(size / 2 * rng.uniform(1, 1.6)), round(size / 2))
            cv2.ellipse(cover, centre, axes, math.degrees(angle), 0, 360, 255, 6 if mark.shape == "ring" else -1)
        share = cv2.resize(cover, (w, h), interpolation=cv2.INTER_AREA).astype(np.float32)[..., None] / 255
        gain = rng.uniform(0.8, 1.2)
        return image + gain * share * np.array(mark.colour, np.float32), (share[..., 0] > 0.5).astype(np.uint8)
