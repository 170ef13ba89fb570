"""What good parts look like: the other side of a :mod:`.contrast`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .examples import record_of
from .resizing import shrunk
from .support import SupportSet

if TYPE_CHECKING:
    from .encoding import SupportEncoding
    from .false_alarms import GoodImages
    from .torch_model import SofsModel

MOST_IMAGES = 16
"""Good images that are described: bounds the time of a query."""


def learn_contrasts(model: "SofsModel", good: "GoodImages") -> "Sequence[SupportEncoding | None]":
    """Describe good images, for queries and, without it, for each good image that is to tell what is left over.

    An image that is part of a description is no news to it. So those that are described form two halves, each of which
    is compared with the other. What a good image shows beyond half of them is, if anything, more than what a further
    one shows beyond all.

    Returns:
        The description to use for each of the good images, then that for queries; ``None`` where there is no other
        image to compare with, or the model's detector does not see images whole.
    """
    count = len(good.images)
    if count < 2 or not model.detector.resizes_large:  # noqa: PLR2004 - one and another
        return [None] * (count + 1)
    described = sorted({i * count // MOST_IMAGES for i in range(MOST_IMAGES)})
    shown: dict[int, Tensor] = {}
    for number, (_, image) in enumerate(good.read()):
        if number in described:
            shown[number] = shrunk(image[None], model.detector.windows)[0]
    halves = described[::2], described[1::2]
    names = good.names

    def encode(numbers: Sequence[int]) -> "SupportEncoding":
        images = [shown[i] for i in numbers]
        empty = [torch.zeros(image.shape[-2:], dtype=torch.uint8) for image in images]
        examples = SupportSet(images, empty, paths=[names[i] for i in numbers])
        encoding = model.encode(examples)
        encoding.preview, encoding.record = None, record_of(examples)
        return encoding

    first, second, everything = encode(halves[0]), encode(halves[1]), encode(described)
    without = dict.fromkeys(halves[0], second) | dict.fromkeys(halves[1], first)
    return [*(without.get(number, everything) for number in range(count)), everything]
