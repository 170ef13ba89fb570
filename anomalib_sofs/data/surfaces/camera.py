# SPDX-License-Identifier: Apache-2.0
"""How a factory camera sees the picture: exposure, blur, noise, tone, compression."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .noise import Array, between, blurred, chance, log_between, white
from .scene import LUMINANCE, Canvas


@dataclass(frozen=True)
class Camera:
    """The camera of a product.

    Attributes:
        exposure: Mean brightness it is set to, 0..1.
        blur: Sigma of its blur in pixels.
        noise: Standard deviation of its noise, 0..1.
        contrast: Factor on the distance to the mean brightness.
        balance: Factor on each colour ``(channels,)``.
        quality: JPEG quality, None for lossless.
    """

    exposure: float
    blur: float
    noise: float
    contrast: float
    balance: Array
    quality: int | None

    @classmethod
    def of(cls, canvas: Canvas, st: Generator, rng: Generator) -> "Camera":
        """Draw the camera of a style, set up for one image."""
        balance = canvas.colour(1 + 0.025 * st.normal(size=3))
        return cls(
            exposure=between(st, 0.2, 0.7) * float(np.exp(0.07 * rng.normal())),
            blur=between(st, 0.25, 0.8) * canvas.unit**0.5,
            noise=log_between(st, 0.003, 0.025),
            contrast=between(st, 0.85, 1.25),
            balance=balance,
            quality=int(st.integers(72, 97)) if chance(st, 0.6) else None,
        )

    def gain(self, picture: Array, cover: Array) -> tuple[float, float]:
        """Return factor and offset that bring the part in a picture ``(H, W, channels)`` to exposure.

        Args:
            picture: The picture.
            cover: 1 on the part, 0 behind it, ``(H, W)``.
        """
        sample = picture[::4, ::4][cover[::4, ::4] > 0.5]
        grey = sample[:, 0] if sample.shape[1] == 1 else sample @ LUMINANCE
        level = max(float(grey.mean()), 0.02)
        # A dark product is lifted part of the way only: black rubber stays dark.
        target = self.exposure**0.65 * min(level, 1.0) ** 0.35
        scale = target / level * self.contrast
        return scale, target * (1 - self.contrast)

    def shot(self, picture: Array, rng: Generator) -> NDArray[np.uint8]:
        """Return the image ``(H, W, 3)`` of an exposed picture ``(H, W, channels)``."""
        seen = blurred(np.ascontiguousarray(picture), self.blur)
        seen = seen.reshape(picture.shape) * self.balance
        # Photon noise grows with the light; the sensor's own does not.
        grain = white(rng, (picture.shape[0], picture.shape[1])) * np.float32(self.noise)
        seen = seen + (grain * (0.5 + np.sqrt(np.clip(seen[..., 0], 0, 1))))[..., None]
        image = np.clip(seen * 255 + 0.5, 0, 255).astype(np.uint8)
        if self.quality is not None:
            _, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
            flag = cv2.IMREAD_GRAYSCALE if image.shape[2] == 1 else cv2.IMREAD_COLOR
            image = np.asarray(cv2.imdecode(code, flag), np.uint8).reshape(image.shape)
        return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else np.ascontiguousarray(image)
