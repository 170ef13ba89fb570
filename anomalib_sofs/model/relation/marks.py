"""The support half of the head: what marked images tell, reduced to a few arrays per class, and calibrated on itself.

Written once for PyTorch and for the runtime without it. The two networks come in as functions: one extracts features of
a window, one takes a first and a second look at them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from array_api_compat import array_namespace

from anomalib_sofs.arrays import Array, as_given, bilinear, cell_means, full_precision, to_numpy

from .calibration import marked_level, shift
from .discriminant import mean_of
from .evidence import region_pixels
from .fine_statistics import FineImage, encode_fine, reduce_fine
from .rejections import KEY, Rejected, level_slopes, rejected_regions
from .self_support import standing_out
from .statistics import encode_support

if TYPE_CHECKING:
    from anomalib_sofs.model.support_crops import SupportCrops

CELL = 4
"""Native pixels across a cell of the grid; 8 of the enlarged image."""
FINE_PREFIX = "fine_"
"""Of the names in an encoding."""
SHARED = frozenset({"scale", "mean", "precision", "background"})
"""Names in an encoding of what the classes of a support set have in common."""

Encoding = dict[str, Array]
Features = list[Array]
"""The coarse grid ``(n, C, h, w)`` and the fine one ``(n, F, 2h, 2w)`` of n windows."""
Extract = Callable[[Array], Features]
"""Turns windows ``(n, 3, 4h, 4w)`` into features."""


class Look(NamedTuple):
    """What n windows show of K classes."""

    maps: Array
    """Logits of the second look, then of the first ``(n, 2 * K, 4h, 4w)``."""
    distance: Array
    """How far what was found stands out from its background ``(n, K)``, see :mod:`.self_support`."""


FirstLook = Callable[[Features, Encoding], Array]
"""Judges features by the encoding of K classes, stacked: logits on the fine grid ``(n, K, 2h, 2w)``."""
Looks = Callable[[Features, Encoding], Look]
"""Judges them twice."""


class Channels(NamedTuple):
    """Channels of the feature layers in the two grids."""

    coarse: Sequence[int]
    fine: Sequence[int]


def stacked(encodings: Sequence[Encoding]) -> Encoding:
    """Put the encodings of K classes together: ``(K, ...)``, but for what they share."""
    first = encodings[0]
    xp = array_namespace(first["scale"])
    return {
        name: value if name in SHARED else xp.stack([encoding[name] for encoding in encodings])
        for name, value in first.items()
    }


def encode_marks(
    crops: "SupportCrops", extract: Extract, first: FirstLook, look: Looks, channels: Channels
) -> dict[str, Encoding]:
    """Reduce every class to its directions and statistics, then calibrate it on its own marked crops."""
    shown = crops.without_rejected
    encodings = describe(shown.features(extract), shown.masks, shown.labels, channels, shown.ignored)
    marked = shown.marked
    encodings = calibrated(encodings, marked.features(extract), marked.masks, marked.labels, first)
    if crops.support.shows_rejected:
        return told_apart(encodings, extract, look, crops.with_rejected)
    return encodings


def describe(
    features: Iterable[Features],
    masks: Sequence[Array],
    labels: Sequence[str],
    channels: Channels,
    ignored: Sequence[Array] | None = None,
) -> dict[str, Encoding]:
    """Describe each class by closed forms; crops without defect add to the background only.

    Args:
        features: Of the support crops, of any sizes.
        masks: Per crop the share of each pixel that is defect ``(h, w)``, 0..1.
        labels: Their classes.
        channels: Of the layers in the grids.
        ignored: Per crop which pixels count for nothing ``(h, w)``; ``None`` if all do.
    """
    if ignored is None:
        ignored = [array_namespace(mask).zeros_like(mask) for mask in masks]
    fine_images: list[FineImage] = []

    def grids() -> Iterator[Array]:
        # one pass: the features of a crop are extracted when its turn comes, and not kept
        for (grid, fine), mask, unclear in zip(features, masks, ignored, strict=True):
            shares = (as_given(to_numpy(cell_means(plane, CELL // 2)), fine) for plane in (mask, unclear))
            with full_precision(fine):
                fine_images.append(reduce_fine(fine[0, ...], *shares))
            yield grid[0, ...]

    with full_precision(masks[0]):
        coarse = encode_support(
            grids(),
            [cell_means(mask, CELL) for mask in masks],
            labels,
            channels.coarse,
            [cell_means(plane, CELL) for plane in ignored],
        )
        fine = encode_fine(fine_images, labels, channels.fine)
    return {
        name: relations._asdict() | {f"{FINE_PREFIX}{key}": value for key, value in fine[name]._asdict().items()}
        for name, relations in coarse.items()
    }


def calibrated(
    encodings: dict[str, Encoding],
    features: Iterable[Features],
    masks: Sequence[Array],
    labels: Sequence[str],
    first: FirstLook,
) -> dict[str, Encoding]:
    """Shift the odds of each class by what the head finds in its support, and count the pixels of its regions.

    See :mod:`.calibration` and :mod:`.evidence`.

    Args:
        encodings: Of these crops and of normal ones, see :func:`describe`.
        features: Of the marked crops.
        masks: Their masks.
        labels: Their classes.
        first: The network; odds are part of its logits as they are, so that it is asked once.
    """
    levels: dict[str, list[Array]] = {name: [] for name in encodings}
    pixels: dict[str, list[Array]] = {name: [] for name in encodings}
    distances: dict[str, list[Array]] = {name: [] for name in encodings}
    for crop, mask, name in zip(features, masks, labels, strict=True):
        encoding = encodings[name]
        logits = first(crop, stacked([encoding]))
        level = marked_level(bilinear(logits, mask.shape)[0, 0, ...], mask)
        levels[name].append(level)
        pixels[name].append(as_given(to_numpy(region_pixels(mask)), logits))
        with full_precision(crop[0]):
            distances[name].append(standing_out(logits + shift([level]), crop[0])[0, 0])
    return {
        name: encoding
        | {
            "odds": encoding["odds"] + shift(levels[name]),
            "marked": mean_of(pixels[name]),
            "distance": mean_of(distances[name]),
        }
        for name, encoding in encodings.items()
    }


def told_apart(
    encodings: dict[str, Encoding], extract: Extract, look: Looks, crops: "SupportCrops"
) -> dict[str, Encoding]:
    """Add the levels that rejected regions set for finds that resemble them, see :mod:`.rejections`.

    Args:
        encodings: Made without them.
        extract: The network that extracts features.
        look: The network that judges them.
        crops: Of the images with rejected regions.
    """
    classes = stacked(list(encodings.values()))
    regions: list[Rejected] = []
    for turn, crop, mask in zip(crops.turned, crops.features(extract), crops.rejected, strict=True):
        if turn:
            continue  # queries are upright
        found = look(crop, classes).maps[0, : len(encodings), ...]
        with full_precision(crop[0]):
            regions += rejected_regions(crop[0][0, ...], found, as_given(to_numpy(mask), found), classes["scale"])
    slopes = level_slopes(regions, classes["contrast"])
    return {name: encoding | {KEY: slopes[number, ...]} for number, (name, encoding) in enumerate(encodings.items())}
