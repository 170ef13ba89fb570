"""Draw support, query, truth and prediction side by side, at native resolution."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from skimage.segmentation import find_boundaries

Picture = NDArray[np.uint8]  # (H, W, 3)

TRUTH = (0, 200, 0)
FOUND = (230, 30, 30)
CLASS_COLOURS = ((230, 30, 30), (30, 110, 230), (240, 160, 0), (150, 60, 200), (0, 160, 140), (200, 80, 120))
CAPTION = 18  # pixels
GAP = 6
SMALLEST_SIDE = 256  # smaller images are enlarged by a whole number, so that single pixels stay visible


def outline(image: Picture, mask: NDArray[np.bool_], colour: tuple[int, int, int]) -> Picture:
    """Draw the outline of a mask just outside of it, so that a one-pixel defect is not painted over."""
    drawn = image.copy()
    drawn[find_boundaries(mask, mode="outer")] = colour
    return drawn


def heat(image: Picture, score: NDArray[np.floating]) -> Picture:
    """Blend a score in [0, 1] over the grey image: the higher, the more opaque."""
    grey = image.mean(axis=2, keepdims=True).repeat(3, axis=2)
    colour = colormaps["turbo"](score)[..., :3] * 255
    weight = (0.15 + 0.65 * score)[..., None]
    return (grey * (1 - weight) + colour * weight).astype(np.uint8)


def side_by_side(panels: Sequence[tuple[str, Picture]], footer: str = "") -> Image.Image:
    """Join captioned pictures of any sizes in one row; small ones are enlarged by a whole number.

    Args:
        panels: Caption and picture.
        footer: A line of text below.
    """
    largest = max(max(picture.shape[:2]) for _, picture in panels)
    factor = max(1, -(-SMALLEST_SIDE // largest))
    images = [
        (
            caption,
            Image.fromarray(picture).resize(
                (picture.shape[1] * factor, picture.shape[0] * factor), Image.Resampling.NEAREST
            ),
        )
        for caption, picture in panels
    ]
    width = sum(image.width for _, image in images) + GAP * (len(images) - 1)
    height = max(image.height for _, image in images) + CAPTION + (CAPTION if footer else 0)
    canvas = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(13)
    x = 0
    for caption, image in images:
        draw.text((x + 2, 1), caption, fill="black", font=font)
        canvas.paste(image, (x, CAPTION))
        x += image.width + GAP
    if footer:
        draw.text((2, height - CAPTION + 1), footer, fill="black", font=font)
    return canvas
