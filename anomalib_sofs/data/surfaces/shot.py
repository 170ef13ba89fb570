# SPDX-License-Identifier: Apache-2.0
"""The picture in the making: a defect is worked in so that it shows, and its mask is cut."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .camera import Camera
from .light import Light
from .noise import Array, blurred
from .scene import LUMINANCE, Canvas, Effect, Scene

VISIBLE = 0.03
"""Least mean change of brightness of a defect; less is lost in the camera's noise."""


@dataclass
class Shot:
    """An exposed picture in the making.

    Attributes:
        canvas: The frame.
        scene: The surface as it is by now.
        light: Its illumination.
        camera: What it is seen with.
        picture: The exposed picture ``(H, W, channels)``.
        scale: Exposure of the camera.
    """

    canvas: Canvas
    scene: Scene
    light: Light
    camera: Camera
    picture: Array
    scale: float

    def add(
        self, effect: Effect, contrast: float, taken: NDArray[np.uint8], *, edge: bool, share: float
    ) -> NDArray[np.uint8] | None:
        """Work a defect into scene and picture unless it would not show.

        Args:
            effect: The defect.
            contrast: Change of brightness it should have, 0..1.
            taken: Mask ``(H, W)`` of what it may not touch.
            edge: Whether it may reach beyond the part.
            share: Least share of the wanted change it has to reach, 0..1.

        Returns:
            Its mask ``(H, W)``, or None if nothing was changed.
        """
        rows, columns = effect.patch.rows, effect.patch.columns
        before = self.light.shade(self.scene.within(rows, columns), rows, columns)
        changed = effect.applied(self.scene)
        delta = (self.light.shade(changed, rows, columns) - before) * np.float32(self.scale)
        now = self.picture[rows, columns]
        extent = effect.extent if edge else effect.extent * changed.cover
        core = blurred(np.ascontiguousarray(extent, np.float32), self.camera.blur) > 0.4
        if int(core.sum()) < 3 or taken[rows, columns][core].any():
            return None
        size = np.abs(delta).max(axis=2)
        # Fine texture hides a change: the finer the defect, the more of it.
        texture = now[..., 0] - blurred(np.ascontiguousarray(now[..., 0]), 2.0 * self.canvas.unit)
        hiding = float(np.hypot(texture.std(), self.camera.noise)) * min(1.6, 0.55 + 6.0 / float(core.sum()) ** 0.5)
        wanted = max(contrast, min(hiding, 0.3))
        strength = float(np.clip(wanted / max(float(size[core].mean()), 1e-4), 0.3, 3.5))
        if strength > 1 and delta.shape[2] == 3:
            # Brightness is brought up to the wanted change, colour less so, or it turns garish.
            grey = (delta @ LUMINANCE)[..., None]
            delta = grey + (delta - grey) * np.float32(strength**-0.6)
        after = np.clip(now + np.float32(strength) * delta, 0.0, 1.05)
        seen = blurred(np.ascontiguousarray(np.abs(after - now).max(axis=2)), self.camera.blur)
        mask = self._noticed(seen, core, wanted)
        if int(mask.sum()) < max(3, 0.3 * int(core.sum())) or float(seen[mask].mean()) < max(VISIBLE, share * wanted):
            return None
        self.picture[rows, columns] = after
        for name in ("albedo", "height", "gloss", "cover"):
            getattr(self.scene, name)[rows, columns] = getattr(changed, name)
        full = np.zeros(self.canvas.size, np.uint8)
        full[rows, columns] = mask
        return full

    def _noticed(self, seen: Array, core: NDArray[np.bool_], wanted: float) -> NDArray[np.bool_]:
        """Return the mask of a defect: its outline where it shows, and what shows beside it."""
        clear = (seen > 0.3 * wanted).astype(np.uint8)
        # The flat middle of a dent belongs to the dent: near a visible pixel is enough.
        near = int(np.clip(0.3 * float(core.sum()) ** 0.5, 1, 12 * self.canvas.unit)) * 2 + 1
        close = cv2.dilate(clear, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (near, near))) > 0
        rim = cv2.dilate(core.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        return np.asarray((core & close) | (rim & (seen > 0.4 * wanted)), np.bool_)
