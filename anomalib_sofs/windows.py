"""Sliding windows at native resolution: every pixel covered, maps averaged where windows overlap.

Placement is index arithmetic, the same in eager mode and inside an exported graph with dynamic height and width. Both
take one window after the other, so that memory stays bounded however large the image is.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

from array_api_compat import array_namespace, device, is_torch_array

from .arrays import Array, bilinear

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST_SIDE = 64
OVERLAP = 1 / 8
"""Least share of a window that it has in common with its neighbour."""

Number = TypeVar("Number", int, "Tensor")


def larger(a: int, b: int) -> int:
    """Return the larger number; in a graph it may be a symbol or, in one that is recorded, a tensor."""
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    import torch  # noqa: PLC0415 - such numbers are torch's

    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        return cast("int", torch.maximum(torch.as_tensor(a), torch.as_tensor(b)))
    return cast("int", torch.sym_max(a, b))


def smaller(a: int, b: int) -> int:
    """Return the smaller number, see :func:`larger`."""
    return -larger(-a, -b)


class Windows(NamedTuple):
    """What windows a head takes."""

    size: int = 512
    """Largest side in pixels of a crop of the support; that of a query's window is :attr:`most`."""
    multiple: int = 32
    """Sides are a multiple of this number of pixels."""
    fixed: bool = False
    """Whether both sides are always ``size``, on smaller images, too."""

    @property
    def least(self) -> int:
        """Smallest side: a feature map of one cell would be taken for a constant when a graph is exported."""
        return self.size if self.fixed else self.multiple * -(-min(SMALLEST_SIDE, self.size) // self.multiple)

    @property
    def most(self) -> int:
        """Largest side of a query's window, a little more than the size: 1024 pixels are two windows, not three."""
        more = divided_up(int(self.size * OVERLAP), self.multiple) * self.multiple
        return self.size if self.fixed else self.size + more

    def side(self, length: int) -> int:
        """Return the side of a window in pixels around a part of an image: the part's, up to a multiple."""
        return clamped(divided_up(length, self.multiple) * self.multiple, self.least, self.size)

    def fill(self, window: Array) -> Array:
        """Continue a part of an image ``(..., H, W)``, no larger than a window, by reflection to a window's sides."""
        return continue_to(window, self.side(window.shape[-2]), self.side(window.shape[-1]))


# Of tensors these take what OpenVINO reads: not ``floor_divide``.


def clamped(number: Number, least: int, most: int | None = None) -> Number:
    """Bring numbers between two others."""
    if not isinstance(number, int):
        return number.clamp(least, most)
    return max(number, least) if most is None else min(max(number, least), most)


def _larger_of(a: Number, b: Number) -> Number:
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else a.maximum(b)


def divided(number: Number, by: Number | int) -> Number:
    """Divide numbers that are not negative, rounded down."""
    return number // by if isinstance(number, int) else number.div(by, rounding_mode="trunc")


def divided_up(number: Number, by: Number | int) -> Number:
    """Divide numbers that are not negative, rounded up."""
    return divided(number + by - 1, by)


class Axis(NamedTuple):
    """Placement of windows along one image axis: at 0, ``step``, 2 ``step``, ... pixels.

    An image that does not fill its last window is continued by reflection; the continuation is cut off again where
    windows are merged. No pixel lies in more than two windows.
    """

    length: int
    """Pixels of the image."""
    size: int
    """Pixels of a window."""
    count: int  # type: ignore[assignment]  # hides that of tuples
    """Windows."""
    step: int
    """Pixels from the start of one window to that of the next."""
    band: int
    """Pixels of the bands in which windows are merged: they lie in no more than two windows."""
    bands: int
    """Bands."""

    @classmethod
    def place(cls, length: int, windows: Windows) -> "Axis":
        """Place windows along an axis of so many pixels."""
        return cls(length, *placed(length, windows))

    def cut(self, image: Array, number: int, axis: int) -> Array:
        """Cut a window out along an axis of an image; only what lies beyond the border is copied pixel by pixel."""
        start = number * self.step
        if start + self.size <= self.length:
            return image[(*[slice(None)] * axis, slice(start, start + self.size))]
        return array_namespace(image).take(image, self.source(image)[number, ...], axis=axis)

    def source(self, like: Array) -> Array:
        """Return the image pixel behind each window pixel ``(count, size)``, reflected at the far border."""
        here = partial(array_namespace(like).arange, device=device(like))
        return reflect(here(self.count)[:, None] * self.step + here(self.size), self.length)


def placed(length: Number, windows: Windows) -> tuple[Number, Number, Number, Number, Number]:
    """Return size, count and step of the windows along an axis, then size and number of the bands."""
    overlap = int(windows.size * OVERLAP)
    count = divided_up(clamped(length - overlap, 1), windows.most - overlap)
    if windows.fixed:
        size: Number = count * 0 + windows.size  # a tensor where the length is one
    else:
        # as few windows as possible, and those as small as possible
        cells = divided_up(length + (count - 1) * overlap, count * windows.multiple)
        size = clamped(cells * windows.multiple, windows.least, windows.most)
    slack = clamped(length - size, 0)
    # of three windows and more, none reaches beyond the start of the next but one
    step = _larger_of(divided_up(slack, clamped(count - 1, 1)), (count > 2) * divided(size, 2))  # noqa: PLR2004
    step = clamped(step, 1)
    band = (count > 2) * step + (count <= 2) * size  # noqa: PLR2004
    return size, count, step, band, divided_up(length, band)


def reflect(pixels: Array, length: int) -> Array:
    """Map positions beyond either end of an axis back into ``[0, length)`` by reflection, however far they lie."""
    xp = array_namespace(pixels)
    # arrays, not Python integers: the ONNX exporter has no remainder by a symbolic number
    period = xp.full_like(pixels, larger(2 * (length - 1), 1))
    folded = xp.remainder(pixels, period)
    return xp.minimum(folded, period - folded).clip(None, length - 1)


def continue_to(image: Array, height: int, width: int) -> Array:
    """Continue an image ``(..., H, W)`` by reflection at its bottom and right to ``(..., height, width)``."""
    sides = (*image.shape[-2:], height, width)
    if all(isinstance(side, int) for side in sides) and sides[:2] == sides[2:]:
        return image
    xp = array_namespace(image)
    rows = reflect(xp.arange(height, device=device(image)), image.shape[-2])
    columns = reflect(xp.arange(width, device=device(image)), image.shape[-1])
    return xp.take(xp.take(image, rows, axis=image.ndim - 2), columns, axis=image.ndim - 1)


def apply_in_windows(image: Array, segment: Callable[[Array], Array], windows: Windows) -> Array:
    """Segment an image of any size window by window, see :func:`apply_in_groups`: one group ``(B, C, H, W)``."""
    (found,) = apply_in_groups(image, segment, windows, 1)
    return found


def apply_in_groups(image: Array, segment: Callable[[Array], Array], windows: Windows, groups: int) -> Sequence[Array]:
    """Segment an image of any size window by window.

    Args:
        image: ``(B, 3, H, W)``.
        segment: Maps windows ``(B, 3, h, w)`` to maps ``(B, C, h, w)``, or to smaller ones, which are enlarged.
        windows: What windows it takes.
        groups: Of as many maps each, which a graph need not hold at the same time.

    Returns:
        Maps of each group ``(B, C / groups, H, W)``: the mean over all windows that cover a pixel.
    """
    if is_torch_array(image):
        from .window_graph import in_graph  # noqa: PLC0415 - whoever has a tensor has torch

        of_groups = in_graph(image, segment, windows, groups)
        if of_groups is not None:
            return of_groups
    return split(applied(image, segment, windows), groups)


def split(maps: Array, groups: int) -> Sequence[Array]:
    """Split maps ``(B, C, H, W)`` into groups of as many each, which are views of them."""
    each = maps.shape[1] // groups
    return [maps[:, i * each : (i + 1) * each, ...] for i in range(groups)]


def applied(image: Array, segment: Callable[[Array], Array], windows: Windows) -> Array:
    """Take one window after the other, see :func:`apply_in_windows`."""
    merging = Merging(image, windows)
    for place, window in merging.windows():
        merging.add(place, enlarged(segment(window), window.shape[-2:]))
    return merging.mean()


def enlarged(maps: Array, size: tuple[int, int]) -> Array:
    """Bring maps ``(B, C, h, w)`` to the size of their window, where they are smaller."""
    return maps if tuple(maps.shape[-2:]) == tuple(size) else bilinear(maps, size)


class Merging:
    """Cuts an image ``(B, 3, H, W)`` into windows and merges what becomes of them, in any order."""

    def __init__(self, image: Array, windows: Windows) -> None:
        self.image = image
        self._rows, self._columns = (Axis.place(length, windows) for length in image.shape[-2:])
        xp = array_namespace(image)
        self._count = xp.zeros(image.shape[-2:], dtype=xp.uint8, device=device(image))
        self._total: Array = None

    def __len__(self) -> int:
        """Return the number of windows."""
        return self._rows.count * self._columns.count

    def windows(self) -> Iterator[tuple[tuple[int, int], Array]]:
        """Yield the place of the top left pixel ``(y, x)`` and the pixels of one window after the other."""
        for i, j in product(range(self._rows.count), range(self._columns.count)):
            place = i * self._rows.step, j * self._columns.step
            yield place, self._columns.cut(self._rows.cut(self.image, i, axis=2), j, axis=3)

    def add(self, place: tuple[int, int], maps: Array) -> None:
        """Add the maps ``(B, C, h, w)`` of the window at a place; what lies beyond the image is its reflection."""
        height, width = self.image.shape[-2:]
        if self._total is None:
            shape = (*maps.shape[:2], height, width)
            self._total = array_namespace(maps).zeros(shape, dtype=maps.dtype, device=device(maps))
        maps = maps[..., : height - place[0], : width - place[1]]
        inside = tuple(slice(start, start + side) for start, side in zip(place, maps.shape[-2:], strict=True))
        self._total[(..., *inside)] += maps
        self._count[inside] += 1

    def mean(self) -> Array:
        """Return the mean over all windows that cover a pixel ``(B, C, H, W)``; to be called once."""
        total, self._total = self._total, None
        total /= self._count
        return total
