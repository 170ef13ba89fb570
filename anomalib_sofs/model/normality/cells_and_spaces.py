"""The default anomaly detector: the nearest normal cell and the space of normal images, two opinions on every cell.

The two fail on different parts, so they are averaged, each in units of what held-out normal cells score. The map takes
strides 8 and 16; the image score takes the nearest cell at stride 16 and the space at stride 32, which sees the part as
a whole. Parts may lie at any angle: normal images are seen in all four quarter turns.
"""

import logging
from collections.abc import Sequence

from array_api_compat import array_namespace

from anomalib_sofs.arrays import Array, bilinear, descending
from anomalib_sofs.model.support_crops import Features, SupportCrops
from anomalib_sofs.windows import Windows

from .detector import AnomalyDetector, Encoding, Extractor
from .nearest import nearest_distance, normal_cells
from .spaces import MOST_SPACES, normal_space, space_distance

logger = logging.getLogger(__name__)

LONG_SIDE = 448
"""Pixels of the longest side of an image; larger ones are resized, smaller ones stay."""
MULTIPLE = 16
"""Sides of an image in pixels: less continuation by reflection, which is never quite normal."""
LAYERS = slice(2, 5)
"""Strides 8, 16 and 32."""
NEAREST, SPACES = (0, 1), (0, 1, 2)
"""Of these, the layers whose cells are compared with normal ones, and those that have spaces."""
TOP = 0.01
"""Share of the cells that the image score is the mean of."""


class CellSpaceDetector(AnomalyDetector):
    """Nearest normal cells and spaces of normal images; reads strides 8, 16 and 32 of the backbone."""

    turns = (0, 1, 2, 3)
    resizes_large = True

    def __init__(self) -> None:
        super().__init__(Windows(LONG_SIDE, MULTIPLE))

    def encode(self, backbone: Extractor, crops: SupportCrops) -> dict[str, Encoding]:
        """Describe what is normal; says so where there are more images than get a space of their own."""
        count = len(set(crops.sources))
        if count > MOST_SPACES:
            logger.warning(
                "%d normal images: the first %d get a space of their own, cells are drawn from all of them.",
                count,
                MOST_SPACES,
            )
        return super().encode(backbone, crops)

    def features(self, backbone: Extractor, windows: Array) -> Features:
        """Extract strides 8, 16 and 32."""
        return backbone(windows, LAYERS)

    def describe(self, views: Sequence[Features], sources: Sequence[int]) -> Encoding:
        """Collect normal cells of all views, and make one space per layer and image, of its first view.

        That is the upright one: a space of all views would take a part that lies askew for a normal one.
        """
        encoding = {f"cells_{i}": normal_cells([view[i] for view in views]) for i in NEAREST}
        upright = [sources.index(image) for image in sorted(set(sources))[:MOST_SPACES]]
        for i in SPACES:
            spaces = [normal_space(views[first][i]) for first in upright]
            encoding[f"means_{i}"], encoding[f"whitening_{i}"] = map(
                array_namespace(views[0][i]).stack, zip(*spaces, strict=True)
            )
        return encoding

    def distances(self, features: Features, encoding: Encoding) -> list[Array]:
        """Return distances from the nearest cell at strides 8 and 16, from spaces at strides 8, 16 and 32."""
        near = [nearest_distance(features[i], encoding[f"cells_{i}"]) for i in NEAREST]
        return near + [space_distance(features[i], encoding[f"means_{i}"], encoding[f"whitening_{i}"]) for i in SPACES]

    def combine(self, found: Sequence[Array], encoding: Encoding) -> Array:
        """Average them: the anomaly map, and the map of the part behind the score, ``(B, 2, h_8, w_8)``."""
        near_8, near_16, space_8, space_16, space_32 = (
            (kind - encoding["offset"][i]) / encoding["scale"][i] for i, kind in enumerate(found)
        )
        pixel = (near_8 + space_8 + _like(near_16 + space_16, near_8)) / 4
        part = (near_16 + _like(space_32, near_16)) / 2
        return array_namespace(pixel).concat([pixel, _like(part, pixel)], axis=1)

    def score(self, maps: Array) -> Array:
        """Return the mean of the highest values of the part map ``(B,)``; a sort and a mask, so that it exports."""
        xp = array_namespace(maps)
        values = descending(xp.reshape(maps[:, 1, ...], (maps.shape[0], -1)))
        ones = xp.ones_like(values)
        top = xp.astype(xp.cumulative_sum(ones, axis=1) - 1 < TOP * values.shape[1], values.dtype)
        return xp.sum(values * top, axis=1) / xp.sum(top, axis=1)


def _like(x: Array, other: Array) -> Array:
    return bilinear(x, other.shape[-2:])
