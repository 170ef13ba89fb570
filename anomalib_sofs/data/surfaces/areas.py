# SPDX-License-Identifier: Apache-2.0
"""Spread-out defects: stains, patches, smears, corrosion, wear, distortion, misprint."""

import math
from dataclasses import replace

import cv2
import numpy as np
from numpy.random import Generator

from .family import Family, Site
from .noise import Array, between, blurred, cells, fractal, smooth, smoothstep, streaks
from .scene import Effect, Patch
from .spots import bowl, outline, within


def stain(rng: Generator, family: Family, site: Site) -> Effect:
    """A dried liquid: lobed outline, often a darker rim, the texture shows through."""
    see = replace(family, opaque=0.35 * family.opaque, rough=0.35 + 0.5 * family.rough)
    patch, depth, radius = outline(rng, see, site)
    inside = within(depth, radius, 0.5 * family.soft)
    rim = np.exp(-((depth / (0.06 * radius + 1.2 * site.unit)) ** 2)) * np.float32(family.variant)
    body = np.clip(0.5 + 0.35 * (1 - family.variant) + 0.14 * fractal(rng, patch.size, 0.8 * radius, 4), 0.15, 1)
    return Effect(
        patch,
        inside,
        paint=inside * np.clip(body + rim, 0, 1),
        coat=see.coat,
        shine=inside * np.float32(0.12 * (family.variant - 0.5)),
    )


def patch_area(rng: Generator, family: Family, site: Site) -> Effect:
    """An irregular area of another tone, as oxide or scale leaves: bays, islands, soft rim."""
    radius = math.sqrt(site.pixels(family) / math.pi)
    patch = Patch.around(site.canvas, site.x, site.y, 2.0 * radius)
    x, y = patch.axes(site.scene.grain)
    r = np.sqrt(x * x / np.float32(family.stretch) + y * y * np.float32(family.stretch)) * np.float32(1 / radius)
    field = (
        1
        - r
        + (0.2 + 0.3 * family.rough) * fractal(rng, patch.size, 0.9 * radius, 4, 0.5) * smoothstep(2.1 - r, 0, 0.6)
    )
    rim = 0.06 + 0.3 * family.soft
    inside = smoothstep(field, -0.5 * rim, 0.5 * rim)
    body = np.clip(0.85 + 0.15 * fractal(rng, patch.size, 6 * site.unit, 3), 0.3, 1)
    return Effect(
        patch,
        inside,
        paint=inside * body,
        coat=replace(family, opaque=0.6 * family.opaque).coat,
        level=inside * np.float32(0.5 * family.variant),
        shine=-0.1 * inside,
    )


def smear(rng: Generator, family: Family, site: Site) -> Effect:
    """Grease or glue wiped over the surface: a band of streaks that runs out."""
    wide = replace(family, stretch=1.5 + 2.5 * family.variant, rough=0.4 * family.rough, opaque=0.3 * family.opaque)
    patch, depth, radius = outline(rng, wide, site)
    angle = site.scene.grain + wide.lean
    lines = streaks(rng, patch.size, angle, 1.5 * radius, 2.5 * site.unit) + streaks(
        rng, patch.size, angle, 2 * radius, 7 * site.unit
    )
    inside = smoothstep(
        depth * np.float32(1.5 / radius) + 0.3 * lines * smoothstep(depth, -0.3 * radius, 0),
        0.0,
        0.25 + 0.5 * family.soft,
    )
    return Effect(
        patch,
        inside,
        paint=inside * np.clip(0.75 + 0.2 * lines, 0.1, 1),
        coat=wide.coat,
        shine=inside * np.float32(0.25 * (family.variant - 0.3)),
        level=0.4 * inside,
    )


def uneven(rng: Generator, family: Family, site: Site) -> Effect:
    """A large diffuse area that came out lighter, darker or of another finish."""
    h, w = site.canvas.size
    patch = Patch.around(site.canvas, site.x, site.y, 2.0 * max(h, w))
    x, y = patch.axes(site.scene.grain + (0 if family.variant < 0.5 else math.pi / 2))
    radius = math.sqrt(site.pixels(family) / math.pi)
    sway = fractal(rng, patch.size, 0.35 * min(h, w), 3) * np.float32(0.25 * radius * (0.4 + family.rough))
    if family.variant < 0.65:
        # A band across the part, as a tool or a roller leaves it.
        half = site.pixels(family) / (2.0 * min(h, w))
        field = np.float32(max(half, 3 * site.unit)) - np.abs(y + 0.5 * sway)
        scale = max(half, 3 * site.unit)
    else:
        field, scale = np.float32(radius) - np.hypot(x, y) + sway, radius
    rim = 2 * site.unit + (0.1 + 0.9 * family.soft) * scale
    inside = smoothstep(field, -0.5 * rim, 0.5 * rim)
    body = np.clip(0.8 + 0.2 * streaks(rng, patch.size, site.scene.grain, 60 * site.unit, 3 * site.unit), 0.2, 1)
    return Effect(patch, inside, paint=inside * body, coat=replace(family, opaque=0.15 * family.opaque).coat)


def corrosion(rng: Generator, family: Family, site: Site) -> Effect:
    """Rust and the like: a crust of specks, dense in the middle, rough, of its own colour."""
    radius = math.sqrt(site.pixels(family) / math.pi) * 1.2
    patch = Patch.around(site.canvas, site.x, site.y, 1.9 * radius)
    x, y = patch.axes()
    r = np.hypot(x, y) * np.float32(1 / radius)
    crust = fractal(rng, patch.size, max(0.7 * radius, 4), 5, 0.75)
    inside = smoothstep(1.0 - r + (0.3 + 0.35 * family.variant) * crust * (r < 1.8), 0.0, 0.18 + 0.2 * family.soft)
    fine = fractal(rng, patch.size, 3.5 * site.unit, 2)
    rust = replace(family, opaque=0.4 + 0.4 * family.opaque)
    paint = inside * np.clip(0.75 + 0.25 * fine, 0.2, 1)
    return Effect(
        patch,
        smoothstep(blurred(inside, 1.3 * site.unit), 0.15, 0.5),
        paint=paint,
        coat=rust.coat,
        height=np.float32(0.7 * site.unit * family.relief) * inside * (fine + 0.8),
        shine=-inside,
    )


def wear(rng: Generator, family: Family, site: Site) -> Effect:
    """A rubbed-off or contact area: smooth outline, texture polished away."""
    calm = replace(family, rough=0.35 * family.rough, opaque=0.5 * family.opaque, stretch=1 + 0.8 * family.variant)
    patch, depth, radius = outline(rng, calm, site)
    inside = within(depth, radius, 0.25 * family.soft)
    body = np.clip(0.9 + 0.07 * fractal(rng, patch.size, 0.7 * radius, 4), 0.3, 1)
    return Effect(patch, inside, paint=inside * body, coat=calm.coat, level=0.8 * inside)


def flaking(rng: Generator, family: Family, site: Site) -> Effect:
    """Coating that came off in flakes: crisp angular outline, the ground shows, a step at the rim."""
    sharp = replace(family, opaque=0.85, rough=0.7)
    patch, depth, radius = outline(rng, sharp, site, spread=1.2)
    edge, labels, count = cells(rng, patch.size, max(0.5 * radius, 3.0))
    bite = rng.normal(size=count).astype(np.float32)[labels] * np.float32(0.22 * radius)
    inside = smoothstep(depth + blurred(bite, 0.6), -0.6, 0.6)
    ground = np.clip(0.85 + 0.2 * fractal(rng, patch.size, 4 * site.unit, 3) - 0.2 * (edge < 1), 0.2, 1)
    return Effect(
        patch,
        inside,
        paint=inside * ground,
        coat=sharp.coat,
        height=np.float32(-1.2 * site.unit * family.relief) * inside,
        shine=-0.5 * inside,
    )


def distortion(rng: Generator, family: Family, site: Site) -> Effect:
    """Texture pushed aside: dragged yarns, bent wires, a swirl."""
    patch, depth, radius = outline(rng, replace(family, rough=0.3 * family.rough), site, spread=1.25)
    inside = blurred(within(depth, radius, 0.5), 0.1 * radius)
    amount = np.float32(max(2.2 * site.unit, 0.3 * radius)) * inside
    x, y = patch.axes()
    if family.variant < 0.5:
        dx, dy = -y / np.float32(radius) * amount * 1.6, x / np.float32(radius) * amount * 1.6
    else:
        drift = family.lean + site.scene.grain
        ripple = 0.7 + 0.5 * smooth(rng, patch.size, 0.5 * radius)
        dx, dy = np.float32(math.cos(drift)) * amount * ripple, np.float32(math.sin(drift)) * amount * ripple
    tone = inside * np.float32(0.15)
    return Effect(
        patch,
        inside,
        paint=tone,
        coat=replace(family, opaque=0.0).coat,
        warp=(dx, dy),
        height=np.float32(0.06 * radius * family.relief) * blurred(bowl(depth, radius), 0.2 * radius),
    )


def misprint(rng: Generator, family: Family, site: Site) -> Effect:
    """Ink where none should be: a stray bar, a ghost letter, a ring, a drip."""
    size = math.sqrt(site.pixels(family))
    patch = Patch.around(site.canvas, site.x, site.y, 2.2 * size + 4 * site.unit)
    page = np.zeros(patch.size, np.uint8)
    x, y = (round(v) for v in patch.centre)
    thick = max(1, round(0.5 * family.width * site.unit))
    kind = int(family.variant * 3.999)
    if kind == 0:
        text = "ABEHKRS23580"[int(rng.integers(12))]
        cv2.putText(
            page,
            text,
            (x - round(0.8 * size), y + round(0.8 * size)),
            0,
            max(0.3, size / 14),
            255,
            max(thick, round(size / 8)),
            cv2.LINE_AA,
        )
    elif kind == 1:
        angle = site.scene.grain + family.lean
        box = cv2.boxPoints(((x, y), (max(2.5 * size, 4), max(0.5 * size, 2)), math.degrees(angle)))
        cv2.fillPoly(page, [np.round(box).astype(np.int32)], 255, cv2.LINE_AA)
    elif kind == 2:
        cv2.ellipse(
            page,
            (x, y),
            (max(2, round(1.1 * size)), max(2, round(0.9 * size))),
            0,
            0,
            int(between(rng, 200, 360)),
            255,
            max(thick, round(0.22 * size)),
            cv2.LINE_AA,
        )
    else:
        cv2.circle(page, (x, y), max(1, round(0.55 * size)), 255, -1, cv2.LINE_AA)
        cv2.line(
            page,
            (x, y),
            (x + round(0.3 * size * rng.normal()), y + round(1.8 * size)),
            255,
            max(1, round(0.35 * size)),
            cv2.LINE_AA,
        )
    ink = blurred(page.astype(np.float32) * np.float32(1 / 255), 0.3 + 0.5 * family.soft * site.unit)
    worn: Array = np.clip(0.9 + 0.25 * fractal(rng, patch.size, 3 * site.unit, 2), 0.35, 1)
    return Effect(patch, ink, paint=ink * worn, coat=replace(family, opaque=0.6 + 0.4 * family.opaque).coat)
