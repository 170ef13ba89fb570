# SPDX-License-Identifier: Apache-2.0
"""Harmless things that catch the eye: dust, print, bolts, grooves, stitches, reflections."""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.random import Generator

from .noise import Array, between, blurred, chance, coordinates, fractal, generator, log_between, smoothstep, strokes
from .scene import Canvas, Scene, mixed
from .sheets import printed

Extra: TypeAlias = Callable[[Scene, Canvas, Generator, Generator], None]


def _contrasting(scene: Scene, canvas: Canvas, st: Generator) -> Array:
    """Return black or white, whichever stands out more, for the style."""
    bright = float(scene.albedo[::16, ::16].mean()) > 0.45
    return canvas.colour(np.full(3, 0.12 if bright else 0.88) + 0.05 * st.normal(size=3))


def dust(scene: Scene, canvas: Canvas, st: Generator, rng: Generator) -> None:
    """Specks of a pixel or two, as many as the product gathers."""
    tone, amount, strength = between(st, 0.0, 1.0), log_between(st, 2, 60), between(st, 0.15, 0.6)
    h, w = canvas.size
    for _ in range(int(rng.poisson(amount))):
        y, x = int(rng.integers(h)), int(rng.integers(w))
        r = int(rng.random() * 1.4 * canvas.unit) + 1
        spot = scene.albedo[y : y + r, x : x + r]
        spot += np.float32(strength * rng.random()) * (np.float32(tone > 0.5) - spot)


def imprint(scene: Scene, canvas: Canvas, st: Generator, rng: Generator) -> None:
    """Text, bars or blocks printed on the part."""
    ink = _contrasting(scene, canvas, st)
    strength = between(st, 0.4, 0.95)
    scene.albedo = mixed(scene.albedo, ink, printed(st, rng, canvas, blocks=chance(st, 0.4)) * np.float32(strength))


def emboss(scene: Scene, canvas: Canvas, st: Generator, rng: Generator) -> None:
    """Raised or sunken lettering."""
    rise = between(st, 0.8, 3.0) * canvas.unit * (1 if chance(st, 0.7) else -1)
    scene.height = scene.height + np.float32(rise) * blurred(printed(st, rng, canvas, blocks=False), 0.6 * canvas.unit)


def bolt(scene: Scene, canvas: Canvas, st: Generator, rng: Generator) -> None:
    """Drilled holes, rivets or screws at fixed places, with a chamfer."""
    u, (h, w) = canvas.unit, canvas.size
    number, radius, open_hole = int(st.integers(1, 4)), log_between(st, 5, 20) * u, chance(st, 0.6)
    places = st.random((3, 2))
    move = 4 * u * rng.normal(size=2)
    for px, py in places[:number]:
        x, y = coordinates(canvas.size, (px * w + move[0], py * h + move[1]))
        depth = np.float32(radius) - np.sqrt(x * x + y * y)
        ring = np.exp(-((depth / np.float32(0.12 * radius + u)) ** 2))
        if open_hole:
            scene.albedo = scene.albedo * (1 - np.float32(0.93) * smoothstep(depth, -0.6, 0.6))[..., None]
            scene.gloss = scene.gloss * (1 - smoothstep(depth, -0.6, 0.6))
            scene.height = scene.height - np.float32(1.5 * u) * ring
        else:
            scene.height = (
                scene.height + np.float32(2.5 * u) * smoothstep(depth, 0, 0.5 * radius) - np.float32(u) * ring
            )
            slot = np.clip(1.2 * u - np.abs(x), 0, 1) * (depth > 0.35 * radius)
            scene.albedo = scene.albedo * (1 - 0.7 * slot)[..., None]


def groove(scene: Scene, canvas: Canvas, st: Generator, rng: Generator) -> None:
    """A straight step or groove of the design, across the whole part."""
    u, (h, w) = canvas.unit, canvas.size
    angle = float(st.choice([0.0, math.pi / 2])) + 0.02 * float(rng.normal())
    where, width, deep, step = (
        between(st, -0.35, 0.35),
        log_between(st, 2, 12) * u,
        between(st, 0.5, 2.5) * u,
        chance(st, 0.4),
    )
    _, y = coordinates(canvas.size, (w / 2, h / 2), angle)
    off = y - np.float32(where * min(h, w) + 3 * u * rng.normal())
    profile = (
        smoothstep(off, -1.5 * u, 1.5 * u) if step else 1 - smoothstep(np.abs(off), 0.5 * width - u, 0.5 * width + u)
    )
    scene.height = scene.height - np.float32(deep) * profile
    scene.albedo = scene.albedo * (1 - np.float32(0.12) * profile)[..., None]


def stitch(scene: Scene, canvas: Canvas, st: Generator, rng: Generator) -> None:
    """A seam sewn with a visible thread."""
    u, (h, w) = canvas.unit, canvas.size
    colour, angle = _contrasting(scene, canvas, st), float(st.choice([0.0, math.pi / 2])) + 0.02 * float(rng.normal())
    where, pitch, width, double = (
        between(st, -0.38, 0.38) * min(h, w),
        between(st, 9, 18) * u,
        between(st, 1.5, 3) * u,
        chance(st, 0.4),
    )
    along, across = np.array([math.cos(angle), math.sin(angle)]), np.array([-math.sin(angle), math.cos(angle)])
    paths = []
    for line in range(2 if double else 1):
        start = np.array([w / 2, h / 2]) + across * (where + 2 * u * rng.normal() + line * 5 * width)
        for k in range(-math.ceil(0.75 * max(h, w) / pitch), math.ceil(0.75 * max(h, w) / pitch)):
            a, b = start + along * k * pitch, start + along * (k + 0.65) * pitch
            paths.append(np.array([[*a, width, 1.0], [*b, width, 1.0]]))
    line_map = strokes(canvas.size, paths)
    scene.albedo = mixed(scene.albedo, colour, 0.9 * line_map)
    scene.height = (
        scene.height + np.float32(1.2 * u) * blurred(line_map, 0.6 * u) - np.float32(2 * u) * blurred(line_map, 4 * u)
    )


def glare(scene: Scene, canvas: Canvas, st: Generator, rng: Generator) -> None:
    """The image of a lamp or window in the surface."""
    h, w = canvas.size
    angle, half, strength = (
        between(st, 0, math.pi),
        (between(st, 0.03, 0.3) * w, between(st, 0.2, 1.2) * h),
        between(st, 0.04, 0.25),
    )
    px, py, rim = st.random(), st.random(), between(st, 0.04, 0.35) * w
    x, y = coordinates(canvas.size, (px * w + 0.05 * w * rng.normal(), py * h + 0.05 * h * rng.normal()), angle)
    shape = smoothstep(np.minimum(np.float32(half[0]) - np.abs(x), np.float32(half[1]) - np.abs(y)), -rim, rim)
    scene.albedo = (
        scene.albedo + np.float32(strength) * (shape * (1 + 0.1 * scene.height / canvas.unit).clip(0.5, 1.5))[..., None]
    )


def haze(scene: Scene, canvas: Canvas, st: Generator, rng: Generator) -> None:
    """Clouds of tone that every part of the product has."""
    amount, scale = log_between(st, 0.02, 0.08), log_between(st, 25, 120) * canvas.unit
    scene.albedo = (
        scene.albedo * np.clip(1 + np.float32(amount) * fractal(rng, canvas.size, scale, 4), 0.3, 1.8)[..., None]
    )


EXTRAS: dict[str, Extra] = {
    "dust": dust, "print": imprint, "emboss": emboss, "bolt": bolt, "groove": groove, "stitch": stitch, "glare": glare,
    "haze": haze,
}  # fmt: skip


def dressed(
    scene: Scene, canvas: Canvas, names: tuple[str, ...], key: tuple[object, ...], rng: Generator, *, more: bool
) -> None:
    """Add the harmless things of a product to a scene in place.

    Args:
        scene: The scene.
        canvas: The frame.
        names: What can be seen on this kind of surface.
        key: Key of the product; fixes which of them it has and how they look.
        rng: Generator of the instance.
        more: Whether to show them more often than the product usually does.
    """
    for name in names:
        st = generator("extra", name, *key)
        often = between(st, 0.15, 1.0) if chance(st, 0.3) else 0.0
        draw = float(rng.random())
        if draw < often + (0.08 if more else 0.0):
            EXTRAS[name](scene, canvas, st, rng)
    np.clip(scene.albedo, 0.0, 1.4, out=scene.albedo)
