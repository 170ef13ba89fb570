# SPDX-License-Identifier: Apache-2.0
"""What a picture is made of before light falls on it: the scene, and what a defect does to it."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike

from .noise import Array, Size, blurred, coordinates, shifted

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Canvas:
    """The frame to paint.

    Attributes:
        size: Rows and columns.
        grey: Whether the camera of the product sees no colour.
    """

    size: Size
    grey: bool

    @property
    def unit(self) -> float:
        """Pixels in one reference pixel, that of a frame of 256."""
        return min(self.size) / 256

    @property
    def channels(self) -> int:
        """Colour channels worked with; a grey scene costs a third."""
        return 1 if self.grey else 3

    def colour(self, rgb: ArrayLike) -> Array:
        """Return a colour as the camera sees it, ``(channels,)``."""
        values = np.asarray(rgb, np.float32)
        return np.array([values @ LUMINANCE], np.float32) if self.grey else values

    def filled(self, rgb: ArrayLike, tone: Array | float = 1.0) -> Array:
        """Return an ``(H, W, channels)`` area of one colour times a tone ``(H, W)``."""
        ones = np.broadcast_to(np.asarray(tone, np.float32), self.size)
        return ones[..., None] * self.colour(rgb)


@dataclass
class Scene:
    """Maps of one surface, each ``(H, W)`` or ``(H, W, channels)``.

    Attributes:
        albedo: Share of light sent back.
        height: Relief in pixels.
        gloss: Strength of the mirror-like reflection.
        cover: 1 on the part, 0 on what lies behind it.
        backdrop: Picture of what lies behind.
        depth: Distance in pixels to the part's edge, positive inside.
        grain: Main direction of the texture in radians.
        anchors: ``(n, 4)`` x, y, half width, half height of repeated elements.
        substrate: Colour under those elements.
    """

    albedo: Array
    height: Array
    gloss: Array
    cover: Array
    backdrop: Array
    depth: Array
    grain: float = 0.0
    anchors: Array = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    substrate: Array = field(default_factory=lambda: np.zeros(1, np.float32))

    def anchors_shown(self) -> Array:
        """Return those anchors whose centre lies on the part and in the frame."""
        h, w = self.cover.shape
        x, y = np.round(self.anchors[:, 0]).astype(int), np.round(self.anchors[:, 1]).astype(int)
        inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
        inside &= self.cover[np.clip(y, 0, h - 1), np.clip(x, 0, w - 1)] > 0.5
        return np.asarray(self.anchors[inside], np.float32)

    def within(self, rows: slice, columns: slice) -> "Scene":
        """Return the scene inside a window, as views."""
        at = (rows, columns)
        return Scene(
            self.albedo[at],
            self.height[at],
            self.gloss[at],
            self.cover[at],
            self.backdrop[at],
            self.depth[at],
            self.grain,
            self.anchors,
            self.substrate,
        )


def surface(canvas: Canvas, albedo: Array, height: Array, gloss: Array | float = 0.1, *, grain: float = 0.0) -> Scene:
    """Return a scene that fills the frame."""
    ones = np.ones(canvas.size, np.float32)
    return Scene(
        albedo=np.asarray(albedo, np.float32),
        height=np.asarray(height, np.float32),
        gloss=ones * np.float32(gloss) if isinstance(gloss, float) else np.asarray(gloss, np.float32),
        cover=ones,
        backdrop=np.broadcast_to(np.zeros(canvas.channels, np.float32), albedo.shape),
        depth=np.broadcast_to(np.float32(1e3), canvas.size),
        grain=grain,
    )


def mixed(base: Array, colour: Array, alpha: Array) -> Array:
    """Lay a colour ``(channels,)`` over an ``(H, W, channels)`` area with opacity ``alpha`` (H, W)."""
    return base + alpha[..., None] * (colour - base)


@dataclass(frozen=True)
class Patch:
    """A window of the frame around one defect.

    Attributes:
        rows: Its rows in the frame.
        columns: Its columns.
        centre: Centre of the defect in the window, x and y, in pixels; may lie outside.
        unit: Pixels per reference pixel.
    """

    rows: slice
    columns: slice
    centre: tuple[float, float]
    unit: float

    @classmethod
    def around(cls, canvas: Canvas, x: float, y: float, reach: float) -> "Patch":
        """Return the window of half width ``reach`` around a point, cut to the frame."""
        # A spare margin gives the slopes at the rim their neighbours.
        reach = math.ceil(reach) + 4
        h, w = canvas.size
        top, left = int(np.clip(round(y) - reach, 0, h - 1)), int(np.clip(round(x) - reach, 0, w - 1))
        bottom, right = int(np.clip(round(y) + reach + 1, top + 1, h)), int(np.clip(round(x) + reach + 1, left + 1, w))
        return cls(slice(top, bottom), slice(left, right), (x - left, y - top), canvas.unit)

    @property
    def size(self) -> Size:
        """Rows and columns of the window."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    def axes(self, angle: float = 0.0) -> tuple[Array, Array]:
        """Return x and y relative to the centre of the defect, in turned axes."""
        return coordinates(self.size, self.centre, angle)


@dataclass(frozen=True)
class Coat:
    """A change of albedo: times ``gain``, plus ``tone``.

    Attributes:
        gain: Factor on the albedo, ``(channels,)`` or one for all.
        tone: Colour added to it, ``(channels,)``.
    """

    gain: Array | float
    tone: Array | float

    def laid(self, albedo: Array, opacity: Array) -> Array:
        """Return an albedo ``(h, w, channels)`` under the coat of an opacity ``(h, w)``."""
        under = albedo * np.asarray(self.gain, np.float32) + np.asarray(self.tone, np.float32)
        return albedo + opacity[..., None] * (under - albedo)


@dataclass
class Effect:
    """What a defect does to the scene in its window; maps are ``(h, w)``.

    Attributes:
        patch: The window.
        extent: Where the defect is, 0..1; the mask is cut from it.
        paint: Opacity of the coat.
        coat: How the albedo changes.
        height: Relief added, pixels.
        level: Share of the texture's relief lost.
        shine: Gloss added.
        cover: Change of the part's cover: -1 removes, +1 adds material.
        warp: Displacement of the texture, x and y, pixels.
    """

    patch: Patch
    extent: Array
    paint: Array | None = None
    coat: Coat | None = None
    height: Array | None = None
    level: Array | None = None
    shine: Array | None = None
    cover: Array | None = None
    warp: tuple[Array, Array] | None = None

    def applied(self, scene: Scene) -> Scene:
        """Return the window of ``scene`` with the defect in it; ``scene`` is left alone."""
        part = scene.within(self.patch.rows, self.patch.columns)
        if self.warp is not None:
            shape = part.albedo.shape
            part.albedo = shifted(np.ascontiguousarray(part.albedo), *self.warp).reshape(shape)
            part.height = shifted(np.ascontiguousarray(part.height), *self.warp)
            part.cover = shifted(np.ascontiguousarray(part.cover), *self.warp)
        if self.level is not None:
            flat = blurred(np.ascontiguousarray(part.height), 6 * self.patch.unit)
            part.height = part.height + self.level * (flat - part.height)
        if self.height is not None:
            part.height = part.height + self.height
        if self.paint is not None and self.coat is not None:
            part.albedo = self.coat.laid(part.albedo, self.paint)
        if self.shine is not None:
            part.gloss = np.maximum(part.gloss + self.shine, 0.0)
        if self.cover is not None:
            part.cover = np.clip(part.cover + self.cover, 0.0, 1.0)
        return part


def blob(rng: Generator, patch: Patch, radius: float, *, stretch: float, angle: float, rough: float) -> Array:
    """Return the signed depth in pixels inside an irregular rounded outline.

    Args:
        rng: Generator of the instance.
        patch: Window to draw in.
        radius: Radius of the disc of the same area, pixels.
        stretch: Long over short axis, at least 1.
        angle: Direction of the long axis.
        rough: 0 for an ellipse, 1 for a ragged outline.
    """
    x, y = patch.axes(angle)
    wide = math.sqrt(stretch)
    x, y = x * np.float32(1 / (radius * wide)), y * np.float32(wide / radius)
    rho = np.sqrt(x * x + y * y)
    if rough > 0:
        theta = np.arctan2(y, x)
        rim = np.ones_like(rho)
        for k in range(2, 7):
            rim += np.float32(0.42 * rough / k * rng.normal()) * np.cos(k * theta + np.float32(6.3 * rng.random()))
        rho /= np.maximum(rim, 0.35)
    return (1.0 - rho) * np.float32(radius / math.sqrt(wide))
