"""The default anomaly detector: nearest normal cells and spaces of normal images, several opinions on every cell.

They fail on different parts, so they are averaged, each in units of what held-out normal cells score. The map asks for
the nearest cell at stride 16, anywhere and near the same place, and for the space at strides 8 (twice as much, for it
is the finest) and 16. The image score asks for the nearest cell at stride 16 and, of the image made smaller, at strides
8 and 16, where a cell sees more of the part, and for the space at stride 32, which sees the part as a whole. Parts may
lie at any angle: normal images are seen in all four quarter turns.
"""

import logging
from collections.abc import Sequence

from array_api_compat import array_namespace

from anomalib_sofs.arrays import Array, bilinear, descending
from anomalib_sofs.model.resizing import resize_image
from anomalib_sofs.model.support_crops import Features, SupportCrops
from anomalib_sofs.windows import Windows, divided, larger, smaller

from .detector import AnomalyDetector, Encoding, Extractor
from .near import near_distance, normal_maps
from .nearest import nearest_distance, normal_cells
from .spaces import MOST_SPACES, normal_space, space_distance

logger = logging.getLogger(__name__)

LONG_SIDE = 448
"""Pixels of the longest side of an image; larger ones are resized, smaller ones stay."""
MULTIPLE = 16
"""Sides of an image in pixels: less continuation by reflection, which is never quite normal."""
LAYERS = slice(2, 5)
"""Strides 8, 16 and 32."""
SMALL_LAYERS = slice(2, 4)
"""Strides 8 and 16, of the smaller image."""
SMALL_SIDE = 256
"""Pixels of the longest side of the smaller image."""
LEAST_SMALL_CELLS = 2
"""At stride 16: a map of one cell would be taken for a constant when a graph is exported."""
NEAREST = (1, 3, 4)
"""Of the features (strides 8, 16, 32, and 8, 16 of the smaller image), those whose cells are compared anywhere."""
NEAR = 1
"""The one whose cells are compared near the same place."""
SPACES = (0, 1, 2)
"""Those that have spaces."""
TOP = 0.01
"""Share of the cells that the image score is the mean of."""
MEDIAN_SHARE = 0.5
"""How much of the median cell is subtracted from it: another light or camera is not a defect of the part, or little of
one."""


class CellSpaceDetector(AnomalyDetector):
    """Nearest normal cells and spaces of normal images.

    Reads strides 8, 16 and 32 of a CNN; of a vision transformer three blocks, its cells being of one size, stand in for
    them.

    Args:
        multiple: Sides of an image in pixels are multiples of this number; that of a transformer's patch.
    """

    turns = (0, 1, 2, 3)
    resizes_large = True

    def __init__(self, multiple: int = MULTIPLE) -> None:
        self.multiple = multiple
        super().__init__(Windows(LONG_SIDE // multiple * multiple, multiple))

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
        """Extract strides 8, 16 and 32, and 8 and 16 of the windows made smaller."""
        small = resize_image(windows, small_size(windows.shape[-2], windows.shape[-1], self.multiple))
        # the network of a bundle knows only the three layers
        return [*backbone(windows, LAYERS), *backbone(small, SMALL_LAYERS)[:2]]

    def describe(self, views: Sequence[Features], sources: Sequence[int]) -> Encoding:
        """Collect normal cells of all views, and make one space per layer and image, of its first view.

        That is the upright one: a space of all views would take a part that lies askew for a normal one.
        """
        encoding = {f"cells_{i}": normal_cells([view[i] for view in views]) for i in NEAREST}
        described = sorted(set(sources))[:MOST_SPACES]
        maps = [view[NEAR] for view, source in zip(views, sources, strict=True) if source in described]
        encoding["maps"] = normal_maps(maps)
        upright = [sources.index(image) for image in described]
        for i in SPACES:
            spaces = [normal_space(views[first][i]) for first in upright]
            encoding[f"means_{i}"], encoding[f"whitening_{i}"] = map(
                array_namespace(views[0][i]).stack, zip(*spaces, strict=True)
            )
        return encoding

    def distances(self, features: Features, encoding: Encoding) -> list[Array]:
        """Return distances from the nearest cells, from the nearest one near the same place, and from spaces."""
        nearest = [nearest_distance(features[i], encoding[f"cells_{i}"]) for i in NEAREST]
        near = near_distance(features[NEAR], encoding["maps"])
        spaces = [space_distance(features[i], encoding[f"means_{i}"], encoding[f"whitening_{i}"]) for i in SPACES]
        return [*nearest, near, *spaces]

    def combine(self, found: Sequence[Array], encoding: Encoding) -> Array:
        """Average them: the anomaly map, and the map of the part behind the score, ``(B, 2, h_8, w_8)``."""
        nearest_16, small_8, small_16, near_16, space_8, space_16, space_32 = (
            (kind - encoding["offset"][i]) / encoding["scale"][i] for i, kind in enumerate(found)
        )
        pixel = (2 * space_8 + _like(nearest_16 + near_16 + space_16, space_8)) / 5
        part = sum(_like(kind, space_8) for kind in (nearest_16, small_8, small_16, space_32)) / 4
        return array_namespace(pixel).concat([pixel, part], axis=1)

    def score(self, maps: Array) -> Array:
        """Return the mean of the highest values of the part map, less a share of its median ``(B,)``.

        A sort and masks, so that it exports.
        """
        xp = array_namespace(maps)
        values = descending(xp.reshape(maps[:, 1, ...], (maps.shape[0], -1)))
        rank = xp.cumulative_sum(xp.ones_like(values), axis=1) - 1
        highest = xp.astype(rank < TOP * values.shape[1], values.dtype)
        middle = xp.astype(xp.abs(rank - values.shape[1] / 2) < 1, values.dtype)

        def mean(chosen: Array) -> Array:
            return xp.sum(values * chosen, axis=1) / xp.sum(chosen, axis=1)

        return mean(highest) - MEDIAN_SHARE * mean(middle)


def small_size(height: int, width: int, multiple: int = MULTIPLE) -> tuple[int, int]:
    """Return the sides ``(height, width)`` in pixels of a window made smaller, multiples of some number."""
    longest = larger(height, width)
    goal = smaller(longest, SMALL_SIDE)

    def side(length: int) -> int:
        cells = divided(divided(length * goal, longest) + multiple // 2, multiple)
        return larger(cells, LEAST_SMALL_CELLS) * multiple

    return side(height), side(width)


def _like(x: Array, other: Array) -> Array:
    return bilinear(x, other.shape[-2:])
