# SPDX-License-Identifier: Apache-2.0
"""Defects of structured parts: an element missing, a bridge, a clogged opening."""

from dataclasses import replace

import numpy as np
from numpy.random import Generator

from .family import Family, Site
from .noise import between, chance, fractal, smoothstep
from .scene import Coat, Effect, Patch
from .spots import bowl, hole, outline, particle, within


def clogged(rng: Generator, family: Family, site: Site) -> Effect:
    """An opening filled with dirt or coating."""
    effect = particle(rng, family, site)
    effect.cover = effect.extent
    return effect


def missing(rng: Generator, family: Family, site: Site) -> Effect:
    """A repeated element that is not there: the ground shows in its place."""
    anchors = site.scene.anchors
    if len(anchors) == 0:
        return hole(rng, family, site)
    gap = np.hypot(anchors[:, 0] - site.x, anchors[:, 1] - site.y)
    ax, ay, a, b = (float(v) for v in anchors[int(gap.argmin())])
    if family.variant > 0.7 and chance(rng, 0.7):
        # Half of it broke off.
        ax, a = ax + between(rng, -0.5, 0.5) * a, a * 0.6
    patch = Patch.around(site.canvas, ax, ay, max(a, b) + 2)
    x, y = patch.axes()
    inside = smoothstep(np.minimum(np.float32(a) - np.abs(x), np.float32(b) - np.abs(y)), -0.7, 0.7)
    ground = np.broadcast_to(site.scene.substrate, family.tint.shape)
    mottle = np.clip(0.93 + 0.1 * fractal(rng, patch.size, 5 * site.unit, 2), 0.3, 1)
    base = np.float32(np.percentile(site.scene.height[patch.rows, patch.columns], 10))
    now = site.scene.height[patch.rows, patch.columns]
    return Effect(
        patch, inside, paint=inside * mottle, coat=Coat(0.0, ground), height=(base - now) * inside, shine=-inside
    )


def bridge(rng: Generator, family: Family, site: Site) -> Effect:
    """Too much solder, glue or flash: a shining lump that joins neighbours."""
    lump = replace(family, dark=False, opaque=0.85, stretch=max(1.5, family.stretch), rough=0.35 * family.rough)
    patch, depth, radius = outline(rng, lump, site, spread=1.3)
    inside = within(depth, radius, 0.1)
    body = np.float32(0.5 * family.relief * radius) * bowl(depth, radius)
    metal = np.float32(0.4) + np.float32(0.5) * family.tint
    return Effect(
        patch, inside, paint=inside, coat=Coat(0.1, metal), height=body, level=inside, shine=inside * np.float32(0.5)
    )
