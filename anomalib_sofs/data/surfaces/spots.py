# SPDX-License-Identifier: Apache-2.0
"""Compact defects: pits, holes, dents, bumps, particles, inclusions, knots."""

import math
from dataclasses import replace

import numpy as np
from numpy.random import Generator

from .family import Family, Site
from .noise import Array, blurred, fractal, smooth, smoothstep
from .scene import Coat, Effect, Patch, blob


def outline(rng: Generator, family: Family, site: Site, *, spread: float = 1.0) -> tuple[Patch, Array, float]:
    """Return window, depth inside the outline and radius of a compact instance.

    Args:
        rng: Generator of the instance.
        family: Its family.
        site: Its place.
        spread: How far the effect reaches beyond the outline, in radii.
    """
    radius = max(math.sqrt(site.pixels(family) / math.pi), 1.0)
    reach = radius * math.sqrt(family.stretch) * (1.25 + 0.5 * family.rough) * spread
    patch = Patch.around(site.canvas, site.x, site.y, reach)
    depth = blob(rng, patch, radius, stretch=family.stretch, angle=site.scene.grain + family.lean, rough=family.rough)
    if family.rough > 0.3 and radius > 4:
        depth = depth + np.float32(0.22 * family.rough * radius) * fractal(rng, patch.size, max(0.7 * radius, 2.0), 3)
    return patch, depth, radius


def within(depth: Array, radius: float, soft: float) -> Array:
    """Return opacity 0..1 of an outline whose rim fades over a share of the radius."""
    rim = 0.7 + 0.5 * soft * radius
    return smoothstep(depth, -0.5 * rim, 0.5 * rim)


def bowl(depth: Array, radius: float) -> Array:
    """Return a dome of height 1 over an outline, rounded off at its rim."""
    t = np.clip(depth * np.float32(1 / radius), 0, 1)
    return np.asarray(t * (2 - t))


def pit(rng: Generator, family: Family, site: Site) -> Effect:
    """A sunken spot with a shaded wall, sometimes dirty at its bottom."""
    patch, depth, radius = outline(rng, replace(family, stretch=min(family.stretch, 1.6)), site, spread=1.3)
    inside = within(depth, radius, 0.4 * family.soft)
    height = np.float32(-1.1 * family.relief * radius) * bowl(depth, radius)
    return Effect(
        patch,
        inside,
        paint=inside * np.float32(0.35 + 0.5 * family.variant),
        coat=family.coat,
        height=height,
    )


def blowhole(rng: Generator, family: Family, site: Site) -> Effect:
    """A gas pore: small, dark, round or drawn out, now and then with a paler tail or rim."""
    stretch = family.stretch if family.variant < 0.5 else min(family.stretch, 1.3)
    patch, depth, radius = outline(rng, replace(family, stretch=stretch, rough=0.5 * family.rough), site, spread=1.5)
    inside = within(depth, radius, 0.5 * family.soft)
    height = np.float32(-0.8 * family.relief * radius) * bowl(depth, radius)
    rim = np.exp(-(((depth + 0.8) / 1.2) ** 2)) * np.float32(0.5 * max(0.0, family.variant - 0.6) * radius)
    return Effect(patch, inside, paint=inside * np.float32(0.8), coat=family.coat, height=height + rim)


def hole(rng: Generator, family: Family, site: Site) -> Effect:
    """An opening through the part: crisp outline, the backdrop or a dark ground behind it."""
    patch, depth, radius = outline(rng, replace(family, stretch=min(family.stretch, 2.0)), site, spread=1.3)
    inside = within(depth, radius, 0.15 * family.soft)
    burr = np.exp(-((depth / (1.5 * site.unit)) ** 2)) * np.float32(family.relief * site.unit)
    behind = np.float32(1.3 if not family.dark else 0.25) * family.tint
    shadow = behind * np.ones_like(family.tint)
    return Effect(
        patch,
        np.maximum(inside, 0.6 * (burr > 0.5 * burr.max())),
        paint=inside,
        coat=Coat(0.02, shadow),
        height=burr * (1 - inside),
        level=inside,
        shine=-inside,
    )


def dent(rng: Generator, family: Family, site: Site) -> Effect:
    """A smooth hollow: nothing but a bright and a dark side."""
    patch, depth, radius = outline(rng, replace(family, rough=0.4 * family.rough), site, spread=1.4)
    inside = within(depth, radius, 0.3)
    hollow = blurred(bowl(depth, radius), 0.12 * radius)
    return Effect(patch, inside, height=np.float32(-0.35 * family.relief * radius) * hollow)


def bump(rng: Generator, family: Family, site: Site) -> Effect:
    """A blister or lump: raised, glossy, sometimes of a slightly different colour."""
    patch, depth, radius = outline(
        rng, replace(family, stretch=min(family.stretch, 1.7), rough=0.6 * family.rough), site, spread=1.4
    )
    inside = within(depth, radius, 0.3)
    dome = np.float32(0.6 * family.relief * radius) * blurred(bowl(depth, radius), 0.08 * radius)
    paint = inside * np.float32(0.25 * max(0.0, family.variant - 0.4))
    return Effect(
        patch, inside, paint=paint, coat=family.coat, height=dome, shine=inside * np.float32(0.2 * family.variant)
    )


def inclusion(rng: Generator, family: Family, site: Site) -> Effect:
    """Foreign matter rolled in along the grain: tapering streaks, single or in a swarm."""
    long = max(family.stretch, 2.5 + 9 * family.variant)
    one = replace(family, stretch=long, lean=0.06 * float(rng.normal()), rough=0.4 + 0.5 * family.rough)
    patch, depth, radius = outline(rng, one, site)
    short = radius / math.sqrt(long)
    x = patch.axes(site.scene.grain)[0]
    ragged = np.float32(0.5 * short) * smooth(rng, patch.size, 3 * short) - np.float32(0.25) * np.abs(x) * np.float32(
        1 / long
    )
    inside = within(depth + ragged, short, family.soft)
    inside = inside * np.clip(0.85 + 0.3 * fractal(rng, patch.size, 4 * site.unit, 2), 0.3, 1)
    return Effect(
        patch, inside, paint=inside, coat=family.coat, height=np.float32(-0.3 * family.relief * short) * inside
    )


def spot(rng: Generator, family: Family, site: Site) -> Effect:
    """A discoloured spot: only its colour differs."""
    patch, depth, radius = outline(rng, family, site)
    inside = within(depth, radius, family.soft)
    uneven = np.clip(1 + 0.2 * fractal(rng, patch.size, max(0.6 * radius, 2.0), 3), 0.4, 1)
    return Effect(patch, inside, paint=inside * uneven, coat=family.coat)


def particle(rng: Generator, family: Family, site: Site) -> Effect:
    """Debris lying on the surface: covers it, stands out and is angular."""
    sharp = replace(family, opaque=0.75 + 0.25 * family.opaque, rough=0.4 + 0.6 * family.rough)
    patch, depth, radius = outline(rng, sharp, site, spread=1.3)
    inside = within(depth, radius, 0.1 * family.soft)
    body = np.float32(0.5 * family.relief * radius) * np.minimum(bowl(depth, radius) * 1.6, 1.0)
    lumps = np.float32(0.12 * radius) * fractal(rng, patch.size, max(0.5 * radius, 1.5), 2) * inside
    return Effect(
        patch,
        inside,
        paint=inside,
        coat=sharp.coat,
        height=body + lumps,
        level=inside,
        shine=inside * np.float32(0.3 * (family.variant > 0.6)),
    )


def knot(rng: Generator, family: Family, site: Site) -> Effect:
    """A knot in timber: dark rings, cracked heart, the grain parts around it."""
    patch, depth, radius = outline(
        rng,
        replace(family, stretch=min(1.0 + family.variant, family.stretch + 0.2), rough=0.3 * family.rough, lean=0.0),
        site,
        spread=2.2,
    )
    inside = within(depth, radius, 0.2 + 0.3 * family.soft)
    rings = np.sin(depth * np.float32(2.2 / site.unit / (1 + family.width)) + smooth(rng, patch.size, radius))
    heart = smoothstep(depth, 0.55 * radius, 0.8 * radius)
    paint = inside * np.clip(0.6 + 0.25 * rings + 0.3 * heart, 0, 1)
    x, y = patch.axes(site.scene.grain)
    push = (
        np.exp(-((np.clip(-depth, 0, None) / np.float32(0.5 * radius)) ** 2))
        * (1 - inside)
        * np.float32(-0.5 * radius)
        * np.tanh(y / np.float32(0.6 * radius))
    )
    # The displacement fades to none at the window's rim, or the rim would show.
    push = push * smoothstep(-np.hypot(x, y), -2.4 * radius, -1.4 * radius)
    c, s = np.float32(math.cos(site.scene.grain)), np.float32(math.sin(site.scene.grain))
    tint = replace(family, tint=family.tint * 0.7, opaque=0.3 * family.opaque)
    return Effect(
        patch,
        inside,
        paint=paint,
        coat=tint.coat,
        height=np.float32(-0.3 * site.unit) * paint,
        warp=(-s * push, c * push),
    )


def bubble(rng: Generator, family: Family, site: Site) -> Effect:
    """A bubble or ring in a clear body: bright rim, dark rim, a glint."""
    patch, depth, radius = outline(rng, replace(family, rough=0.15 * family.rough), site, spread=1.2)
    inside = within(depth, radius, 0.1)
    wall = np.exp(-(((depth - 0.2 * radius) / (0.16 * radius + 0.7)) ** 2))
    x, y = patch.axes()
    glint = np.exp(-(((x + 0.35 * radius) ** 2 + (y + 0.35 * radius) ** 2) / (0.18 * radius + 0.6) ** 2))
    return Effect(
        patch,
        inside,
        paint=wall * np.float32(0.8),
        coat=family.coat,
        height=np.float32(0.25 * radius) * bowl(depth, radius),
        shine=inside * glint * 2,
    )


def swarm(rng: Generator, family: Family, site: Site) -> Effect:
    """A cluster of small specks, pressed in or deposited: rolled-in scale, pitting."""
    reach = math.sqrt(site.pixels(family)) * 1.6 + 3 * site.unit
    patch = Patch.around(site.canvas, site.x, site.y, reach)
    x, y = patch.axes(site.scene.grain)
    near = np.exp(
        -(x * x / np.float32(family.stretch) + y * y * np.float32(family.stretch)) / np.float32((0.5 * reach) ** 2)
    )
    speck = smooth(rng, patch.size, (2.0 + 2.5 * family.variant) * site.unit)
    inside = smoothstep(speck + 1.6 * near, 2.0, 2.35) * (near > 0.2)
    whole = smoothstep(blurred(inside, 1.2 * site.unit), 0.12, 0.4)
    return Effect(
        patch, whole, paint=inside, coat=family.coat, height=np.float32(-0.5 * site.unit * family.relief) * inside
    )
