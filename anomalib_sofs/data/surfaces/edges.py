# SPDX-License-Identifier: Apache-2.0
"""Defects of the part's edge: chips, breaks, burrs."""

from dataclasses import replace

import numpy as np
from numpy.random import Generator

from .family import Family, Site
from .noise import blurred, cells, fractal, smoothstep
from .scene import Effect
from .spots import bowl, outline, within


def chip(rng: Generator, family: Family, site: Site) -> Effect:
    """A shell broken out of the edge: a fresh, faceted face of another brightness."""
    patch, depth, radius = outline(
        rng, replace(family, rough=0.4 + 0.4 * family.rough, stretch=min(family.stretch, 1.8)), site, spread=1.3
    )
    on_part = site.scene.cover[patch.rows, patch.columns]
    inside = within(depth, radius, 0.1) * on_part
    facet = fractal(rng, patch.size, max(0.6 * radius, 2), 3) * inside
    fresh = replace(family, opaque=0.3 + 0.4 * family.opaque)
    edge = site.scene.depth[patch.rows, patch.columns]
    # The shell reaches through the edge itself where the bite is deepest.
    gone = smoothstep(depth - edge, 0.55 * radius, 0.55 * radius + 1.5) * inside * np.float32(family.variant > 0.4)
    height = np.float32(-0.45 * family.relief * radius) * bowl(depth, radius) + np.float32(0.15 * radius) * facet
    return Effect(
        patch, inside, paint=inside * np.float32(0.8), coat=fresh.coat, height=height, level=inside, cover=-gone
    )


def break_out(rng: Generator, family: Family, site: Site) -> Effect:
    """A piece of the part is gone: the backdrop shows, with a broken face along the rim."""
    patch, depth, radius = outline(
        rng, replace(family, rough=0.5 + 0.4 * family.rough, stretch=min(family.stretch, 2)), site, spread=1.2
    )
    _, labels, count = cells(rng, patch.size, max(0.45 * radius, 3.0))
    facets = rng.normal(size=count).astype(np.float32)[labels]
    depth = depth + blurred(facets, 0.5) * np.float32(0.12 * radius)
    on_part = site.scene.cover[patch.rows, patch.columns]
    inside = smoothstep(depth, -0.6, 0.6) * on_part
    wall = (0.04 + 0.35 * family.variant) * radius
    gone = smoothstep(depth, wall - 0.7, wall + 0.7) * on_part
    if family.variant > 0.75:
        # The rough ground is left standing instead of the backdrop.
        gone = gone * np.float32(0.0)
    rough = np.float32(0.14 * radius) * (fractal(rng, patch.size, max(0.5 * radius, 2), 4) + 0.7 * blurred(facets, 0.5))
    height = inside * rough * np.float32(family.relief) - np.float32(0.25 * radius) * bowl(depth, radius)
    fresh = replace(family, opaque=0.25 + 0.4 * family.opaque)
    return Effect(
        patch,
        inside,
        paint=inside * np.float32(0.75),
        coat=fresh.coat,
        height=height,
        level=inside,
        cover=-gone,
        shine=-inside,
    )


def burr(rng: Generator, family: Family, site: Site) -> Effect:
    """Flash or a burr: material of the part that stands out over its edge."""
    patch, depth, radius = outline(rng, replace(family, rough=0.5 * family.rough + 0.3), site, spread=1.2)
    behind = 1 - site.scene.cover[patch.rows, patch.columns]
    body = within(depth, radius, 0.05)
    near = smoothstep(site.scene.depth[patch.rows, patch.columns], -1.6 * radius, -0.2 * radius)
    added = body * behind * near
    ridge = body * np.exp(-((site.scene.depth[patch.rows, patch.columns] / np.float32(2 * site.unit)) ** 2))
    inside = np.maximum(added, ridge * (1 - behind))
    return Effect(
        patch,
        inside,
        paint=inside * 0.85,
        coat=replace(family, opaque=0.15 + 0.6 * family.opaque).coat,
        height=np.float32(1.0 * site.unit * family.relief) * inside,
        cover=added,
        shine=0.1 * inside,
    )
