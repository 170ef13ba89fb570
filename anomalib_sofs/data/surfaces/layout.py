# SPDX-License-Identifier: Apache-2.0
"""Where the part ends: its silhouette, its rounded rim and what lies behind it."""

import math
from dataclasses import replace

import numpy as np
from numpy.random import Generator

from .noise import Array, between, blurred, chance, coordinates, fractal, log_between, smooth, smoothstep
from .scene import Canvas, Scene

BACKDROPS = (
    (0.03, 0.03, 0.03),
    (0.1, 0.1, 0.11),
    (0.02, 0.03, 0.05),
    (0.9, 0.9, 0.9),
    (0.45, 0.45, 0.44),
    (0.2, 0.3, 0.25),
)


def plate(canvas: Canvas, centre: tuple[float, float], half: tuple[float, float], corner: float, angle: float) -> Array:
    """Return the depth inside a rectangle of half sizes ``half`` (x, y) with round corners."""
    x, y = coordinates(canvas.size, centre, angle)
    corner = min(corner, *half)
    qx, qy = np.abs(x) - np.float32(half[0] - corner), np.abs(y) - np.float32(half[1] - corner)
    outside = np.hypot(np.maximum(qx, 0), np.maximum(qy, 0))
    return np.float32(corner) - outside - np.minimum(np.maximum(qx, qy), 0)


def disc(canvas: Canvas, centre: tuple[float, float], radius: float) -> Array:
    """Return the depth inside a disc."""
    x, y = coordinates(canvas.size, centre)
    return np.float32(radius) - np.sqrt(x * x + y * y)


def _outline(canvas: Canvas, st: Generator, rng: Generator, kind: str) -> Array:
    """Return the depth inside the silhouette of a kind of view."""
    h, w = canvas.size
    u = canvas.unit
    quarter = int(st.integers(4)) * math.pi / 2
    share, corner = between(st, 0.66, 0.94), log_between(st, 1, 60) * u
    tilt = 0.03 * float(rng.normal())
    cx, cy = w / 2 + 4 * u * rng.normal(), h / 2 + 4 * u * rng.normal()
    if kind == "disc":
        return disc(canvas, (cx, cy), share * min(h, w) / 2)
    if kind == "plate":
        return plate(canvas, (cx, cy), (share * w / 2, between(st, 0.6, 1.0) * share * h / 2), corner, tilt)
    if kind == "bar":
        return plate(canvas, (cx, cy), (w * 2.0, between(st, 0.5, 0.9) * h / 2), 0.0, quarter + tilt)
    # "side": one straight edge; the frame is moved so that it shows 3 to 20 % behind it.
    x, _ = coordinates(canvas.size, (w / 2, h / 2), quarter + tilt)
    extent = abs(math.cos(quarter)) * w / 2 + abs(math.sin(quarter)) * h / 2
    bow = between(st, -0.15, 0.15) * extent if chance(st, 0.25) else 0.0
    _, along = coordinates(canvas.size, (cx, cy), quarter + tilt)
    return np.float32(extent * between(rng, 0.6, 0.94)) - x - np.float32(bow) * (along / np.float32(extent)) ** 2


def placed(scene: Scene, canvas: Canvas, views: tuple[str, ...], st: Generator, rng: Generator, *, edge: bool) -> Scene:
    """Cut the silhouette of the product out of a surface that fills the frame.

    Args:
        scene: The surface; one that has a silhouette of its own is returned as it is.
        canvas: The frame.
        views: How the part can be framed besides filling the frame: "side" shows one edge,
            "bar" two, "plate" and "disc" all of it.
        st: Generator of the style.
        rng: Generator of the instance.
        edge: Whether the view has to show an edge of the part.
    """
    kind = "full" if chance(st, 0.62) else str(st.choice(views))
    # A product seen from within is now and then seen at its edge too, or the edge alone
    # would give away the defects that need one.
    if kind == "full" and (edge or chance(rng, 0.12)):
        kind = "side"
    if kind == "full" or scene.cover.min() < 1:
        return scene
    depth = _outline(canvas, st, rng, kind)
    return standing(scene, canvas, depth, st, rng)


def standing(scene: Scene, canvas: Canvas, depth: Array, st: Generator, rng: Generator) -> Scene:
    """Put a part of the given depth map before a backdrop, with a rounded rim and a shadow."""
    u = canvas.unit
    ragged = log_between(st, 0.03, 0.5) * u
    depth = depth + np.float32(ragged) * fractal(rng, canvas.size, 14 * u, 3)
    cover = np.clip(depth + 0.5, 0.0, 1.0)
    rim, drop = log_between(st, 1.0, 9.0) * u, between(st, 0.0, 1.6)
    height = scene.height - np.float32(drop * rim) * np.exp(np.clip(depth, 0, None) * np.float32(-1 / rim))
    behind = np.array(BACKDROPS[int(st.integers(len(BACKDROPS)))]) * between(st, 0.8, 1.1)
    grain, shade = log_between(st, 0.004, 0.08), between(st, 0.0, 0.6)
    tone = (
        1
        + np.float32(grain) * smooth(rng, canvas.size, 2 * u)
        + np.float32(grain) * fractal(rng, canvas.size, 60 * u, 2)
    )
    reach = log_between(st, 3, 20) * u
    shadow = 1 - np.float32(shade) * smoothstep(blurred(depth, 0.3 * reach), -reach, 0.0)
    return replace(
        scene, height=height, depth=depth, cover=cover, backdrop=canvas.filled(behind, np.clip(tone * shadow, 0, 2))
    )
