# SPDX-License-Identifier: Apache-2.0
"""The appearance family: what one defect class looks like on one product."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.random import Generator

from .noise import Array, between, chance, log_between
from .scene import Canvas, Coat, Effect, Scene

TINTS = (
    (0.5, 0.5, 0.5),
    (0.5, 0.5, 0.5),
    (0.6, 0.42, 0.25),
    (0.35, 0.4, 0.5),
    (0.55, 0.5, 0.3),
    (0.6, 0.3, 0.25),
    (0.4, 0.5, 0.38),
)


@dataclass(frozen=True)
class Family:
    """What stays the same over the instances of one class on one product.

    Attributes:
        area: Typical size as a share of the frame.
        dark: Whether it is darker than its surroundings.
        contrast: Typical change of brightness inside it, 0..1.
        soft: 0 for a crisp outline, 1 for one that fades over half the size.
        rough: 0 for a smooth outline, 1 for a ragged one.
        stretch: Long over short axis.
        lean: Direction against the grain, radians.
        loose: How far single instances leave that direction, radians.
        opaque: 0 where the texture shows through, 1 where it is covered.
        tint: Colour of what covers it, ``(channels,)``.
        relief: Height of the relief against the usual, negative for sunken.
        width: Width of lines in reference pixels.
        variant: 0..1, selects between the shapes of a class.
        many: Mean number of further instances in an image.
    """

    area: float
    dark: bool
    contrast: float
    soft: float
    rough: float
    stretch: float
    lean: float
    loose: float
    opaque: float
    tint: Array
    relief: float
    width: float
    variant: float
    many: float

    def instance(self, rng: Generator) -> "Family":
        """Return the family as one instance shows it: size, contrast, direction vary."""
        return replace(
            self,
            area=self.area * float(np.exp(0.45 * rng.normal())),
            contrast=self.contrast * float(np.exp(0.22 * rng.normal())),
            rough=float(np.clip(self.rough + 0.08 * rng.normal(), 0, 1)),
            stretch=max(1.0, self.stretch * float(np.exp(0.2 * rng.normal()))),
            lean=self.lean + self.loose * float(rng.normal()),
            width=self.width * float(np.exp(0.15 * rng.normal())),
        )

    @property
    def coat(self) -> Coat:
        """What covers the surface."""
        hue = self.tint / max(float(self.tint.mean()), 1e-3)
        if self.dark:
            gain, tone = 0.5 * hue**0.5, 0.12 * hue
        else:
            gain, tone = 1.25 * hue**0.3, 0.9 * hue**0.4
        through = 1 - self.opaque
        haze = 0.0 if self.dark else 0.12 * through
        return Coat(through * gain, self.opaque * tone + haze)


@dataclass(frozen=True)
class Site:
    """Where one instance sits.

    Attributes:
        canvas: The frame.
        scene: The surface under it.
        x: Column of its centre.
        y: Row of its centre.
    """

    canvas: Canvas
    scene: Scene
    x: float
    y: float

    @property
    def unit(self) -> float:
        """Pixels per reference pixel."""
        return self.canvas.unit

    def pixels(self, family: Family) -> float:
        """Return the area of an instance in pixels."""
        return family.area * self.canvas.size[0] * self.canvas.size[1]


Maker: TypeAlias = Callable[[Generator, Family, Site], Effect]


@dataclass(frozen=True)
class Defect:
    """One class of defect.

    Attributes:
        make: Makes one instance.
        shape: "line", "spot", "relief", "area" or "edge": classes of one shape are easily confused.
        area: Smallest and largest typical share of the frame.
        dark: Probability that a family is dark.
        contrast: Smallest and largest typical change of brightness.
        many: Largest mean number of further instances.
        place: Where it sits: "part", its "edge", "either" by family, an "anchor" or its "rim".
    """

    make: Maker
    shape: str
    area: tuple[float, float]
    dark: float = 0.6
    contrast: tuple[float, float] = (0.08, 0.4)
    many: float = 0.8
    place: str = "part"

    def family(self, st: Generator, canvas: Canvas) -> Family:
        """Draw the family of one product."""
        aligned = chance(st, 0.5)
        tint = np.array(TINTS[int(st.integers(len(TINTS)))]) + 0.05 * st.normal(size=3)
        return Family(
            area=log_between(st, *self.area),
            dark=chance(st, self.dark),
            contrast=log_between(st, *self.contrast),
            soft=between(st, 0.0, 1.0) ** 1.5,
            rough=between(st, 0.05, 0.9),
            stretch=1 + between(st, 0.0, 1.2) ** 3,
            lean=0.0 if aligned else between(st, 0, np.pi),
            loose=0.08 if aligned else between(st, 0.2, 1.5),
            opaque=between(st, 0.0, 1.0),
            tint=canvas.colour(np.clip(tint, 0.05, 1)),
            relief=between(st, 0.5, 1.5),
            width=log_between(st, 0.75, 3.4),
            variant=float(st.random()),
            many=between(st, 0.0, self.many) if chance(st, 0.5) else 0.0,
        )
