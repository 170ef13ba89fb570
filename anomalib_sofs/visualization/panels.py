"""Draw support, query, truth and prediction beside each other, at native resolution."""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from skimage.segmentation import find_boundaries

Picture = NDArray[np.uint8]  # (H, W, 3)
Colour = tuple[int, int, int]

TRUTH = (0, 200, 0)
FOUND = (230, 30, 30)
CLASS_COLOURS = ((230, 30, 30), (30, 110, 230), (240, 160, 0), (150, 60, 200), (0, 160, 140), (200, 80, 120))
CAPTION = 18  # pixels
FONT = 13
GAP = 6
SMALLEST_SIDE = 256  # smaller images are enlarged by a whole number, so that single pixels stay visible
PER_UNIT = 800  # pixels of an image's longer side for which lines and letters have their normal size
WIDEST = 2400  # pixels of a row; longer ones are broken up
SHAPE = 1.5  # width by height of a canvas of several rows: a screen's
MOST_PIXELS = 4_000_000  # of a picture's file
FILLED = 0.8  # share of a canvas that pictures fill, beside captions and gaps
SMALL = 0.02  # regions below this share of the longer side are pointed out


def line_width(image: Picture) -> int:
    """Return how many pixels a line has, so that it is seen when the whole image is looked at."""
    return max(1, round(max(image.shape[:2]) / PER_UNIT))


def outline(
    image: Picture,
    mask: NDArray[np.bool_],
    colour: Colour,
    width: int = 1,
    others: NDArray[np.bool_] | None = None,
) -> Picture:
    """Draw the outline of a mask just outside of it, so that a one-pixel defect is not painted over.

    Args:
        image: The image.
        mask: The mask ``(H, W)``.
        colour: Colour of the line.
        width: Its width in pixels.
        others: Pixels that are not to be painted over, either.
    """
    if width == 1:
        ring = find_boundaries(mask, mode="outer")
    else:
        ring = cv2.dilate(mask.astype(np.uint8), _disc(width)).astype(bool) & ~mask
    drawn = image.copy()
    drawn[ring if others is None else ring & ~others] = colour
    return drawn


def point_out(image: Picture, mask: NDArray[np.bool_], colour: Colour) -> Picture:
    """Draw a frame around regions that are easily overlooked; close ones share theirs.

    Args:
        image: The image.
        mask: What was found ``(H, W)``.
        colour: Colour of the frames.
    """
    margin, width = round(SMALL * max(mask.shape)), line_width(image)
    _, _, stats, _ = cv2.connectedComponentsWithStats(
        cv2.dilate(mask.astype(np.uint8), np.ones((2 * margin + 1,) * 2, dtype=np.uint8)), connectivity=8
    )
    drawn = image.copy()
    for left, top, w, h, _ in stats[1:]:
        if max(w, h) < 4 * margin:  # the margins themselves are up to two of these
            cv2.rectangle(drawn, (int(left), int(top)), (int(left + w - 1), int(top + h - 1)), colour, width)
    return drawn


def heat(image: Picture, score: NDArray[np.floating]) -> Picture:
    """Blend a score in [0, 1] over the grey image: the higher, the more opaque."""
    grey = image.mean(axis=2, dtype=np.float32)[..., None]
    shades = (colormaps["turbo"](np.arange(256))[:, :3] * 255).astype(np.float32)
    colour = shades[(score * 255).round().astype(np.uint8)]
    weight = (0.15 + 0.65 * score.astype(np.float32))[..., None]
    return (grey + (colour - grey) * weight).astype(np.uint8)


def side_by_side(panels: Sequence[tuple[str, Picture]], footer: str | Sequence[tuple[str, Colour]] = "") -> Image.Image:
    """Join captioned pictures of any sizes; small ones are enlarged by a whole number.

    A canvas of more than :data:`MOST_PIXELS` is reduced as a whole; see :func:`shared_factor` for a better way.

    The largest decides how much; those less than half as large as it are enlarged further. They stand in one row; a
    row wider than :data:`WIDEST` is broken up so that the canvas is about as wide as a screen.

    Args:
        panels: Caption and picture.
        footer: A line of text below, in parts of their own colours if it is a sequence.
    """
    largest = max(max(picture.shape[:2]) for _, picture in panels)
    factor = max(1, -(-SMALLEST_SIDE // largest))
    unit = max(1, round(largest / PER_UNIT))
    factors = [factor * (largest // max(picture.shape[:2])) for _, picture in panels]
    sizes = [(picture.shape[1] * n, picture.shape[0] * n) for n, (_, picture) in zip(factors, panels, strict=True)]
    caption, gap, parts = CAPTION * unit, GAP * unit, [(footer, (0, 0, 0))] if isinstance(footer, str) else footer
    columns = _columns(sizes, caption, gap)
    rows = [range(start, min(start + columns, len(panels))) for start in range(0, len(panels), columns)]
    widths = [max(sizes[i][0] for i in range(column, len(panels), columns)) for column in range(columns)]
    heights = [max(sizes[i][1] for i in row) + caption for row in rows]
    height = sum(heights) + gap * (len(rows) - 1)
    canvas = Image.new("RGB", (sum(widths) + gap * (columns - 1), height + (caption if footer else 0)), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(FONT * unit)
    y = 0
    for row, row_height in zip(rows, heights, strict=True):
        x = 0
        for i, width in zip(row, widths, strict=False):
            text, picture = panels[i]
            draw.text((x + 2 * unit, y + unit), text, fill="black", font=font)
            canvas.paste(Image.fromarray(picture).resize(sizes[i], Image.Resampling.NEAREST), (x, y + caption))
            x += width + gap
        y += row_height + gap
    x = 2 * unit
    for text, colour in parts if footer else []:
        draw.text((x, height + unit), text, fill=colour, font=font)
        x += round(draw.textlength(text, font=font)) + 2 * gap
    too_large = canvas.width * canvas.height / MOST_PIXELS
    if too_large > 1:
        size = (int(canvas.width / too_large**0.5), int(canvas.height / too_large**0.5))
        return canvas.resize(size, Image.Resampling.LANCZOS)
    return canvas


def shared_factor(size: tuple[int, int], count: int, others: int = 0) -> float:
    """Return by what pictures have to be reduced to share a canvas: before lines are drawn on them, which stay clear.

    Args:
        size: Height and width of each of them.
        count: How many there are.
        others: Pixels that other pictures take.
    """
    room = FILLED * MOST_PIXELS - others
    return min(1.0, (max(room, MOST_PIXELS / 4) / (count * size[0] * size[1])) ** 0.5)


def reduced(picture: NDArray[Any], factor: float) -> NDArray[Any]:
    """Reduce a picture or a map by averaging."""
    if factor >= 1:
        return picture
    size = (max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(picture.dtype, copy=False)


def reduced_classes(classes: NDArray[np.integer], factor: float) -> NDArray[np.integer]:
    """Reduce a class map ``(H, W)``; a pixel that shows any of a class belongs to it, however small the region is."""
    if factor >= 1:
        return classes
    small = reduced(np.zeros(classes.shape, np.uint8), factor).astype(classes.dtype)
    for value in np.unique(classes[classes > 0]):
        small[reduced((classes == value).astype(np.float32), factor) > 0] = value
    return small


def _columns(sizes: Sequence[tuple[int, int]], caption: int, gap: int) -> int:
    """Choose how many pictures stand in a row."""
    if sum(width for width, _ in sizes) + gap * (len(sizes) - 1) <= WIDEST:
        return len(sizes)

    def distance(columns: int) -> float:
        width = sum(max(w for w, _ in sizes[column::columns]) for column in range(columns))
        rows = [sizes[start : start + columns] for start in range(0, len(sizes), columns)]
        return abs(math.log(width / sum(max(h for _, h in row) + caption for row in rows) / SHAPE))

    # as few columns as a number of rows allows: no row is shorter than it must be
    return min((-(-len(sizes) // rows) for rows in range(1, len(sizes) + 1)), key=distance)


def _disc(radius: int) -> NDArray[np.uint8]:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)).astype(np.uint8)
