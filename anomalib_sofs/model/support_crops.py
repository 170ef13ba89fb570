"""The crops of a support set: where its marks are, cut when their turn comes, their features kept if there is room."""

import hashlib
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from functools import partial, reduce
from itertools import groupby, product
from operator import attrgetter, or_
from typing import NamedTuple

from array_api_compat import array_namespace

from anomalib_sofs.annotations.labels import IGNORE
from anomalib_sofs.annotations.notices import warn_once
from anomalib_sofs.arrays import Array, grown, to_numpy
from anomalib_sofs.progress import shown
from anomalib_sofs.windows import Windows

from .caching import kept
from .examples import Examples
from .resizing import resize_image, resize_mask, window_fit
from .support_windows import covers_much, place_windows, rest_windows

Features = list[Array]  # one (1, D_l, h, w) per layer
Extract = Callable[[Array], Features]
MANY = 16
"""Support images from which a progress bar is worth its line."""
RIM = 8
"""Pixels around a mark that show neither defect nor background."""


class _Crop(NamedTuple):
    """One window of a support image."""

    source: int
    """Number of the image."""
    place: tuple[int, int]
    """Top left corner ``(y, x)`` in pixels."""
    turn: int
    """Quarter turns in which it is seen."""


class SupportCrops:
    """Windows of support images around their marks, and over the rest of them, at native scale.

    What is not marked on a marked image is good by definition: its other windows show the background that a defect
    must be told from, edges, borders and other textures of a part that is larger than a window.

    Args:
        support: The examples.
        windows: What windows the head takes.
        normalise: Brings images in [0, 1] to what the backbone wants.
        per_image: Most windows over the marks of one image.
        background: Most further windows over the rest of a marked image.
        turns: Quarter turns in which every window over marks is seen.
        whole: See whole images, resized to a window, instead.
        cache: Keeps features by the content of the image, see :func:`crop_cache`.

    Attributes:
        masks: Per crop the share of each pixel that is defect ``(h, w)``, 0..1.
        ignored: Per crop which pixels are neither defect nor background ``(h, w)``, 0..1.
        rejected: Per crop the share of each pixel that somebody called no defect ``(h, w)``, 0..1.
        labels: Per crop its class.
        sources: Per crop the number of the image that it was cut from.
        turned: Per crop by how many quarters it is turned.
    """

    def __init__(
        self,
        support: Examples,
        windows: Windows,
        normalise: Callable[[Array], Array],
        *,
        per_image: int,
        background: int = 0,
        turns: Sequence[int] = (0,),
        whole: bool = False,
        cache: MutableMapping[tuple[object, ...], Features] | None = None,
    ) -> None:
        self.support = support
        self.windows = windows
        self.whole = whole
        self._normalise = normalise
        self._per_image = per_image
        self._turns = turns
        self._cache = cache
        self._background = background
        self._crops: list[_Crop] = []
        self.masks: list[Array] = []
        self.ignored: list[Array] = []
        self.rejected: list[Array] = []
        for number, (mask, rejected) in enumerate(zip(support.masks, support.rejected, strict=True)):
            defect, unclear, none = (mask > 0) & (mask != IGNORE), mask == IGNORE, mask < 0
            no_defect = none if rejected is None else rejected != 0
            places = [(0, 0)] if whole else place_windows(defect | no_defect, windows.size, per_image)
            self._add(number, (defect, unclear, no_defect), places, turns)
            if background and not whole and bool(defect.any()):
                rest = rest_windows(mask.shape, windows.size, places)
                if len(rest) > background:
                    _say_left_out(support.paths[number], len(rest), background)
                    rest = [rest[i * len(rest) // background] for i in range(background)]
                unclear = unclear | grown(self._marked_anywhere(number), RIM)
                self._add(number, (none, unclear, none), rest, (0,))
        self.sources = [crop.source for crop in self._crops]
        self.turned = [crop.turn for crop in self._crops]
        self.labels = [support.labels[number] for number in self.sources]

    def _add(
        self, number: int, marks: Sequence[Array], places: Sequence[tuple[int, int]], turns: Sequence[int]
    ) -> None:
        xp = array_namespace(marks[0])
        planes = xp.astype(xp.stack(list(marks)), xp.float32)
        if self.whole:
            planes = resize_mask(planes, window_fit(planes.shape[-2], planes.shape[-1], self.windows))
        for place, turn in product(places, turns):
            crop = _Crop(number, place, turn)
            mask, ignored, rejected = (self._cut(planes, crop)[0, i, ...] for i in range(len(marks)))
            self._crops.append(crop)
            self.masks.append(mask)
            self.ignored.append(ignored)
            self.rejected.append(rejected)

    def _marked_anywhere(self, number: int) -> Array:
        """Return what any example of the same file marks ``(H, W)``: it may show defects of several classes."""
        path = self.support.paths[number]
        masks = [mask for mask, other in zip(self.support.masks, self.support.paths, strict=True) if other == path]
        return reduce(or_, ((mask > 0) & (mask != IGNORE) for mask in masks))

    @property
    def marked(self) -> "SupportCrops":
        """The crops around the marks of the images that show a defect."""
        return self._of(self.support.marked, background=0)

    @property
    def with_rejected(self) -> "SupportCrops":
        """The crops of the images that show rejected regions."""
        return self._of(self.support.with_rejected, background=0)

    @property
    def without_rejected(self) -> "SupportCrops":
        """The crops of all other images."""
        if not self.support.shows_rejected:
            return self
        return self._of(self.support.without_rejected, background=self._background)

    def _of(self, support: Examples, background: int) -> "SupportCrops":
        return SupportCrops(
            support, self.windows, self._normalise, per_image=self._per_image, background=background, turns=self._turns,
            whole=self.whole, cache=self._cache,
        )  # fmt: skip

    def features(self, extract: Extract) -> Iterator[Features]:
        """Yield the features of one crop after the other: all of them at once need not fit into memory.

        Args:
            extract: Turns a normalised window ``(1, 3, h, w)`` into features.
        """
        images = self.support.images
        by_image = groupby(self._crops, key=attrgetter("source"))
        quiet = len(images) < MANY
        for number, crops in shown(by_image, "Support images", len(images), quiet=quiet):
            image = images[number]
            content = b"" if self._cache is None else digest(image)
            if self.whole:
                image = resize_image(image, window_fit(image.shape[-2], image.shape[-1], self.windows))
            for crop in crops:
                yield self._kept(content, crop, partial(self._extract, image, crop, extract))

    def _kept(self, content: bytes, crop: _Crop, compute: Callable[[], Features]) -> Features:
        if self._cache is None:
            return compute()
        # by content: file names may be reused, and images in memory have none
        return kept(self._cache, (content, crop.place, crop.turn, self.windows, self.whole), compute)

    def _extract(self, image: Array, crop: _Crop, extract: Extract) -> Features:
        return extract(self._normalise(self._cut(image, crop)))

    def _cut(self, planes: Array, crop: _Crop) -> Array:
        """Cut a window ``(1, C, h, w)`` out of planes ``(C, H, W)``."""
        (y, x), side = crop.place, self.windows.size
        return self.windows.fill(_turned(planes[None, :, y : y + side, x : x + side], crop.turn))


def _turned(planes: Array, quarters: int) -> Array:
    """Turn planes ``(n, C, H, W)`` anticlockwise by some quarters."""
    xp = array_namespace(planes)
    for _ in range(quarters % 4):
        planes = xp.flip(xp.matrix_transpose(planes), axis=2)
    return planes


def seen_whole(support: Examples) -> bool:
    """Tell whether every defect covers so much that the paper resizes the whole image (Zhang et al. 2024).

    Without any defect nothing speaks against it.
    """
    return all(covers_much(mask) for mask in support.marked_masks)


def say_resized(support: Examples, size: int) -> None:
    """Say once that the images of a support set are not seen at native resolution."""
    sides = [max(image.shape[-2:]) for image in support.images]
    largest = max(sides)
    if largest > size:
        path = support.paths[sides.index(largest)]
        warn_once(
            size,
            "%s has %d pixels on its long side. Images are seen whole here, at most %d pixels long, and maps are "
            "enlarged again: what is small may be missed. Cut large images into parts to keep their resolution.",
            path,
            largest,
            size,
        )


def _say_left_out(path: str, windows: int, most: int) -> None:
    warn_once(
        path,
        "%s is large: %d of its %d windows, spread evenly, show what its background looks like; what looks otherwise "
        "may be taken for a defect. --model.head_options.background_windows %d takes all of them.",
        path,
        most,
        windows,
        windows,
    )


def digest(values: Array) -> bytes:
    """Return what stands for the content of a tensor."""
    return hashlib.sha256(to_numpy(values).tobytes()).digest()[:16]  # processors have instructions for it
