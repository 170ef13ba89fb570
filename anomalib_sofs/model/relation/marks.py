"""The support half of the head: what marked images tell, reduced to a few arrays per class, and calibrated on itself.

Written once for PyTorch and for the runtime without it. The two networks come in as functions: one extracts features of
a window, one takes a first and a second look at them.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from array_api_compat import array_namespace

from anomalib_sofs.arrays import Array, as_given, bilinear, full_precision, to_numpy

from .calibration import marked_level, shift
from .description import Channels, Encoding, Features, describe
from .discriminant import mean_of
from .evidence import region_pixels
from .rejections import KEY, Rejected, level_slopes, rejected_regions
from .self_support import standing_out

if TYPE_CHECKING:
    from anomalib_sofs.model.support_crops import SupportCrops

SHARED = frozenset({"scale", "mean", "precision", "background"})
"""Names in an encoding of what the classes of a support set have in common."""

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
