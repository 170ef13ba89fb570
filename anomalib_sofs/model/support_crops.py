"""The crops of a support set: where its marks are, cut when their turn comes, their features kept if there is room."""

import hashlib
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from functools import partial

import torch
from cachetools import LRUCache
from rich.progress import track
from torch import Tensor

from anomalib_sofs.annotations.labels import IGNORE
from anomalib_sofs.windows import Windows

from .caching import kept
from .resizing import resize_image, resize_mask, window_fit
from .support import SupportSet
from .support_windows import covers_much, place_windows

Features = list[Tensor]  # one (1, D_l, h, w) per layer
Extract = Callable[[Tensor], Features]
MANY = 16
"""Support images from which a progress bar is worth its line."""


def feature_bytes(crops: list[Features]) -> int:
    """Return the memory of the features of some crops in bytes."""
    return sum(layer.nbytes for features in crops for layer in features)


def crop_cache(capacity: int) -> "LRUCache[tuple[object, ...], list[Features]]":
    """Make a store for the features of support crops, bounded in bytes; the least recently used goes first."""
    return LRUCache(capacity, getsizeof=feature_bytes)


class SupportCrops:
    """Windows of support images around their marks, at native scale.

    Args:
        support: The examples.
        windows: What windows the head takes.
        normalise: Brings images in [0, 1] to what the backbone wants.
        per_image: Most windows cut from one image.
        turns: Quarter turns in which every window is seen.
        whole: See whole images, resized to a window, instead.
        cache: Keeps features by the content of image and mask, see :func:`crop_cache`.

    Attributes:
        masks: Per crop the share of each pixel that is defect ``(h, w)``, 0..1.
        ignored: Per crop which pixels are neither defect nor background ``(h, w)``, 0..1.
        rejected: Per crop the share of each pixel that somebody called no defect ``(h, w)``, 0..1.
        labels: Per crop its class.
        sources: Per crop the number of the image that it was cut from.
    """

    def __init__(
        self,
        support: SupportSet,
        windows: Windows,
        normalise: Callable[[Tensor], Tensor],
        *,
        per_image: int,
        turns: Sequence[int] = (0,),
        whole: bool = False,
        cache: MutableMapping[tuple[object, ...], list[Features]] | None = None,
    ) -> None:
        self.support = support
        self.windows = windows
        self.whole = whole
        self._normalise = normalise
        self._per_image = per_image
        self._turns = turns
        self._cache = cache
        self._parts = [self._cut_masks(*marks) for marks in zip(support.masks, support.rejected, strict=True)]
        self.masks = [part[0, 0] for parts in self._parts for part in parts]
        self.ignored = [part[0, 1] for parts in self._parts for part in parts]
        self.rejected = [part[0, 2] for parts in self._parts for part in parts]
        self.sources = [number for number, parts in enumerate(self._parts) for _ in parts]
        self.labels = [support.labels[number] for number in self.sources]

    @property
    def marked(self) -> "SupportCrops":
        """The crops of the images that show a defect."""
        return self._of(self.support.marked)

    @property
    def with_rejected(self) -> "SupportCrops":
        """The crops of the images that show rejected regions."""
        return self._of(self.support.with_rejected)

    @property
    def without_rejected(self) -> "SupportCrops":
        """The crops of all other images."""
        if not self.support.shows_rejected:
            return self
        return self._of(self.support.without_rejected)

    def _of(self, support: SupportSet) -> "SupportCrops":
        return SupportCrops(
            support, self.windows, self._normalise, per_image=self._per_image, turns=self._turns,
            whole=self.whole, cache=self._cache,
        )  # fmt: skip

    def features(self, extract: Extract) -> Iterator[Features]:
        """Yield the features of one crop after the other: all of them at once need not fit into memory.

        Args:
            extract: Turns a normalised window ``(1, 3, h, w)`` into features.
        """
        images = list(zip(self.support.images, self.support.masks, self.support.rejected, strict=True))
        shown = track(images, "Support images", transient=True, disable=len(images) < MANY)
        for image, mask, rejected in shown:
            shows = mask if rejected is None else rejected
            yield from self._kept(image, shows, partial(self._extract, image, shows, extract))

    def _kept(self, image: Tensor, mask: Tensor, compute: Callable[[], list[Features]]) -> list[Features]:
        if self._cache is None:
            return compute()
        # by content: file names may be reused, and images in memory have none; one image may show several classes
        key = (digest(image), digest(mask), self.windows, tuple(self._turns), self.whole)
        return kept(self._cache, key, compute)

    def _extract(self, image: Tensor, mask: Tensor, extract: Extract) -> list[Features]:
        return [extract(window) for window in self._windows(self._normalise(image), self._places(mask), resize_image)]

    def _cut_masks(self, mask: Tensor, rejected: Tensor | None) -> list[Tensor]:
        """Cut a mask, its ignored pixels and what was rejected, ``(1, 3, h, w)`` each."""
        none = torch.zeros_like(mask, dtype=torch.bool)
        planes = [(mask > 0) & (mask != IGNORE), mask == IGNORE, none if rejected is None else rejected != 0]
        places = self._places(mask if rejected is None else rejected)
        return self._windows(torch.stack(planes).float(), places, resize_mask)

    def _places(self, mask: Tensor) -> list[tuple[int, int]]:
        if self.whole:
            return [(0, 0)]
        return place_windows((mask > 0) & (mask != IGNORE), self.windows.size, self._per_image)

    def _windows(
        self, planes: Tensor, places: list[tuple[int, int]], resize: Callable[[Tensor, tuple[int, int]], Tensor]
    ) -> list[Tensor]:
        """Cut planes ``(C, H, W)`` into windows ``(1, C, h, w)``, each turn of each of them."""
        if self.whole:
            planes = resize(planes, window_fit(planes.shape[-2], planes.shape[-1], self.windows))
        side = self.windows.size
        windows = [planes[None, :, y : y + side, x : x + side] for y, x in places]
        return [self.windows.fill(torch.rot90(window, k, (-2, -1))) for window in windows for k in self._turns]


def seen_whole(support: SupportSet) -> bool:
    """Tell whether every defect covers so much that the paper resizes the whole image (Zhang et al. 2024).

    Without any defect nothing speaks against it.
    """
    return all(covers_much(mask) for mask in support.marked_masks)


def digest(values: Tensor) -> bytes:
    """Return what stands for the content of a tensor."""
    return hashlib.blake2b(values.detach().cpu().contiguous().numpy().tobytes(), digest_size=16).digest()
