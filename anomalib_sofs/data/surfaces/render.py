# SPDX-License-Identifier: Apache-2.0
"""Composition of one image: surface, silhouette, light, defects, camera."""

from dataclasses import replace

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .camera import Camera
from .defects import DEFECTS
from .extras import dressed
from .family import Defect, Family, Site
from .layout import placed
from .light import lamp
from .noise import Size, chance, generator
from .scene import Canvas
from .shot import Shot
from .textures import KINDS

SURFACES: tuple[str, ...] = tuple(KINDS)


def defect_classes(surface: str) -> tuple[str, ...]:
    """Return the names of the defects a surface can have.

    Raises:
        ValueError: If there is no such surface.
    """
    if surface not in KINDS:
        msg = f"unknown surface {surface!r}, known are: {', '.join(KINDS)}"
        raise ValueError(msg)
    return KINDS[surface].defects


def _site(shot: Shot, place: str, rng: Generator, radius: float) -> Site:
    """Choose where a defect of about ``radius`` pixels sits."""
    scene, (h, w) = shot.scene, shot.canvas.size
    if place == "edge":
        ys, xs = np.nonzero(np.abs(scene.depth[2:-2:2, 2:-2:2]) < 1.6)
        if len(ys):
            k = int(rng.integers(len(ys)))
            return Site(shot.canvas, scene, float(2 + 2 * xs[k]), float(2 + 2 * ys[k]))
    if place in {"anchor", "rim"} and len(scene.anchors):
        x, y, a, b = (float(v) for v in scene.anchors[int(rng.integers(len(scene.anchors)))])
        if place == "rim":
            side = float(rng.choice([-1.0, 1.0]))
            x, y = (
                (x + side * a, y + b * rng.uniform(-1, 1))
                if chance(rng, 0.5)
                else (x + a * rng.uniform(-1, 1), y + side * b)
            )
        return Site(shot.canvas, scene, float(np.clip(x, 2, w - 3)), float(np.clip(y, 2, h - 3)))
    spots = rng.random((10, 2)) * 0.94 + 0.03
    ys, xs = (spots[:, 0] * h).astype(int), (spots[:, 1] * w).astype(int)
    roomy = np.flatnonzero(scene.depth[ys, xs] > min(radius, 0.2 * min(h, w)))
    k = int(roomy[0]) if len(roomy) else int(scene.depth[ys, xs].argmax())
    return Site(shot.canvas, scene, float(xs[k]), float(ys[k]))


def _put(
    shot: Shot, kind: Defect, family: Family, rng: Generator, taken: NDArray[np.uint8], *, tries: int
) -> NDArray[np.uint8] | None:
    """Put one instance of a family into the picture and return its mask, None if it fits nowhere."""
    for attempt in range(tries):
        one = family.instance(rng)
        # What did not show is tried larger and fainter, and at last with the opposite sign.
        one = replace(
            one,
            area=min(one.area * 1.25**attempt, 0.3),
            contrast=max(min(one.contrast, 0.5) * 0.93**attempt, 0.05),
            dark=one.dark ^ (attempt > 3),
            opaque=max(one.opaque, 0.1 * attempt),
        )
        radius = (one.area * shot.canvas.size[0] * shot.canvas.size[1] / np.pi) ** 0.5
        place = kind.place
        if place == "either":
            place = "edge" if family.variant > 0.6 and attempt < 4 else "part"
        site = _site(shot, place, rng, 0.7 * radius)
        effect = kind.make(rng, one, site)
        beyond = kind.place == "edge" or effect.cover is not None
        mask = shot.add(effect, one.contrast, taken, edge=beyond, share=0.55 if attempt < 8 else 0.3)
        if mask is not None:
            return mask
    return None


def _family(surface: str, style: int, defect: str, canvas: Canvas) -> Family:
    """Return how a class looks on a product."""
    return DEFECTS[defect].family(generator("family", surface, style, defect), canvas)


def _distinct(one: Defect, first: Family, other: Defect, second: Family) -> bool:
    """Return whether a person could tell two classes of a product apart at a glance."""
    if "line" in {one.shape, other.shape} or "relief" in {one.shape, other.shape}:
        if one.shape != other.shape:
            return True
        return one.shape == "line" and first.dark != second.dark
    ratio = max(first.area, second.area) / min(first.area, second.area)
    return first.dark != second.dark or ratio > 6


def _foreign(surface: str, style: int, defect: str, canvas: Canvas, rng: Generator) -> str | None:
    """Choose another class that cannot be taken for ``defect`` on this product, if there is one."""
    own = _family(surface, style, defect, canvas)
    others = [
        name
        for name in KINDS[surface].defects
        if DEFECTS[name].area[0] < 0.03
        and _distinct(DEFECTS[defect], own, DEFECTS[name], _family(surface, style, name, canvas))
    ]
    return str(rng.choice(others)) if others else None


def render(
    surface: str,
    defect: str | None,
    *,
    style: int,
    seed: int,
    size: Size = (256, 256),
    distractor: bool | None = None,
    look: int | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Render one image of a product and the mask of its defect.

    The same arguments give the same bytes in every process.

    Args:
        surface: One of ``SURFACES``.
        defect: One of ``defect_classes(surface)``, or None for a good part.
        style: Number of the product: fixes its material, its light and camera, and what
            each class of defect looks like on it.
        seed: Number of the image of that product.
        size: Rows and columns in pixels; the field of view is the same at every size.
        distractor: Whether a defect of another class is added that is not in the mask;
            None adds one to a quarter of the images. Good parts never have one.
        look: Number of the product whose defects these look like; None takes the product's own. The same defect
            on unlike products is what tells real parts from rendered ones.

    Returns:
        The image ``(H, W, 3)``, RGB, and the mask ``(H, W)`` of zeros and ones.

    Raises:
        ValueError: If the surface, or the defect on that surface, is unknown.
        RuntimeError: If the defect found no place where it shows.
    """
    classes = defect_classes(surface)
    if defect is not None and defect not in classes:
        msg = f"unknown defect {defect!r} of {surface!r}, known are: {', '.join(classes)}"
        raise ValueError(msg)
    product, instance = (surface, style), (surface, style, seed, *size)
    canvas = Canvas(size, grey=chance(generator("grey", *product), 0.5))
    look = style if look is None else look
    rng = generator("defect", defect, *instance)

    scene = KINDS[surface].paint(generator("surface", *product), generator("scene", *instance), canvas)
    edge = defect is not None and DEFECTS[defect].place == "edge"
    scene = placed(
        scene, canvas, KINDS[surface].views, generator("layout", *product), generator("view", *instance), edge=edge
    )
    scene.anchors = scene.anchors_shown()
    dressed(scene, canvas, KINDS[surface].extras, product, generator("extras", *instance), more=defect is not None)
    light = lamp(canvas, generator("light", *product), generator("lit", *instance))
    camera = Camera.of(canvas, generator("camera", *product), generator("exposure", *instance))
    picture = light.shade(scene)
    scale, offset = camera.gain(picture, scene.cover)
    # What is brighter than white is cut off, or no defect could be seen in it.
    picture = np.clip(picture * np.float32(scale) + np.float32(offset), 0.0, 1.05)
    shot = Shot(canvas, scene, light, camera, picture, scale)

    mask = np.zeros(size, np.uint8)
    if defect is not None:
        family = _family(surface, look, defect, canvas)
        for k in range(1 + min(3, int(rng.poisson(family.many)))):
            more = _put(shot, DEFECTS[defect], family, rng, mask, tries=16 if k == 0 else 2)
            if more is None and k == 0:
                msg = f"{defect!r} shows nowhere on {surface!r}, style {style}, seed {seed}"
                raise RuntimeError(msg)
            if more is not None:
                mask |= more
        if distractor if distractor is not None else chance(rng, 0.25):
            other = _foreign(surface, look, defect, canvas, rng)
            if other is not None:
                near = cv2.dilate(mask, np.ones((7, 7), np.uint8))
                _put(
                    shot,
                    DEFECTS[other],
                    _family(surface, look, other, canvas),
                    rng,
                    np.asarray(near, np.uint8),
                    tries=3,
                )
    return camera.shot(shot.picture, generator("grain", defect, *instance)), mask
