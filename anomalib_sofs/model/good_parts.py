"""What good parts look like: the other side of a :mod:`.contrast`."""

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from anomalib_sofs.annotations.notices import warn_once

from .crop_cache import crop_cache
from .encoding import SupportEncoding
from .resizing import shrunk
from .support import SupportSet
from .support_crops import digest
from .torch_model import TWICE_BYTES, SofsModel

if TYPE_CHECKING:
    from .false_alarms import GoodImages

LEAST_IMAGES, MOST_IMAGES = 4, 16
"""Good images that are described: a single one does not tell how its kind varies, and many would take time."""
UNITS = ("offset", "scale", "pixel_limit", "pixel_scale")
"""Names in an encoding of what a deviation is measured in."""
_last: "WeakKeyDictionary[nn.Module, tuple[GoodImages, torch.device, Sequence[SupportEncoding | None]]]"
_last = WeakKeyDictionary()
"""By backbone, what was last described with it: it depends on nothing else."""


def learn_contrasts(model: SofsModel, good: "GoodImages") -> Sequence[SupportEncoding | None]:
    """Describe good images, for queries and, without it, for each good image that is to tell what is left over.

    An image that is part of a description is no news to it. So those that are described form two halves, each of which
    is compared with the other. What a good image shows beyond half of them is, if anything, more than what a further
    one shows beyond all.

    Returns:
        The description to use for each of the good images, then that for queries; ``None`` where there are fewer than
        :data:`LEAST_IMAGES`, or the model's detector does not see images whole.
    """
    count, place = len(good.images), model.mean.device
    if count < LEAST_IMAGES or not model.detector.resizes_large:
        return [None] * (count + 1)
    known = _last.get(model.backbone)
    if known is not None and known[0] is good and known[1] == place:  # episodes bring many support sets
        return known[2]
    described = sorted({i * count // MOST_IMAGES for i in range(MOST_IMAGES)})
    shown: dict[int, Tensor] = {}
    for number, (_, image) in enumerate(good.read()):
        if number in described:
            shown[number] = shrunk(image[None], model.detector.windows)[0]
    names, cache = good.names, crop_cache(TWICE_BYTES)
    first = {digest(image): number for number, image in sorted(shown.items(), reverse=True)}
    twins = {number: first[digest(image)] for number, image in shown.items()}
    described = sorted(first.values())
    if len(described) < LEAST_IMAGES:
        warn_once(
            names[0],
            "Of the good images from %s on, %d differ: they tell thresholds, not how good parts vary. Give at least "
            "%d images of different parts.",
            names[0],
            len(described),
            LEAST_IMAGES,
        )
        return [None] * (count + 1)
    halves = described[::2], described[1::2]

    def encode(numbers: Sequence[int]) -> SupportEncoding:
        images = [shown[i] for i in numbers]
        empty = [torch.zeros(image.shape[-2:], dtype=torch.uint8) for image in images]
        examples = SupportSet(images, empty, paths=[names[i] for i in numbers])
        encoding = model.encode(examples, cache)
        encoding.preview = None
        return encoding

    everything, *halved = (encode(numbers) for numbers in (described, *halves))
    for half, unit in product(halved, UNITS):  # in the same units, nothing is nearer to a half than to all
        half.get_submodule("0").register_buffer(unit, everything.encodings[0][unit])
    without = dict.fromkeys(halves[0], halved[1]) | dict.fromkeys(halves[1], halved[0])
    contrasts = [*(without.get(twins.get(number, -1), everything) for number in range(count)), everything]
    _last[model.backbone] = good, place, contrasts
    return contrasts
