"""Arrays of numpy and of torch, by the same lines: the Python array API standard, and what it has no word for.

What is written with these functions runs in training, in exported graphs, and without PyTorch in the runtime.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
from array_api_compat import array_namespace, device, is_torch_array
from numpy.typing import NDArray
from PIL import Image

from .images import as_floats

Array: TypeAlias = Any
"""An array of numpy or a tensor of torch; what is returned is of the library, and on the device, of what was given."""

CHUNK = 2**20
"""Values among which the largest are looked for at once: a copy of them is sorted."""


def to_numpy(x: Array) -> NDArray[Any]:
    """Return an array as one of numpy."""
    return x.detach().cpu().numpy() if is_torch_array(x) else np.asarray(x)


def as_given(values: NDArray[Any], x: Array) -> Array:
    """Return an array of numpy as one of the library and on the device of ``x``."""
    return array_namespace(x).asarray(values, device=device(x))


@contextmanager
def full_precision(x: Array) -> Iterator[None]:
    """Switch autocast off on the device of a tensor: a Gram matrix of features overflows in half precision.

    There is nothing to do while a graph is exported, and for arrays of numpy.
    """
    if not is_torch_array(x):
        yield
        return
    if _exporting():
        yield
        return
    import torch  # noqa: PLC0415 - whoever has a tensor has torch

    with torch.autocast(x.device.type, enabled=False):
        yield


def drawn(length: int, count: int) -> list[int]:
    """Draw ``count`` of ``length`` rows without replacement where there are enough, always the same ones.

    The first steps of a Fisher-Yates shuffle by a Mersenne twister with seed 0, as ``torch.randperm`` does it: each
    number takes as many steps as are drawn, however long the list is.
    """
    generator = np.random.RandomState(0)  # its stream is frozen, that of the newer generators is not
    moved: dict[int, int] = {}
    order = []
    for i, number in enumerate(generator.randint(0, 2**32, min(count, length), dtype=np.uint32).tolist()):
        other = i + number % (length - i)
        order.append(moved.get(other, other))
        moved[other] = moved.get(i, i)
    return [order[i % length] for i in range(count)]


def unit(x: Array, axis: int) -> Array:
    """Scale vectors along an axis to length 1."""
    xp = array_namespace(x)
    return x / xp.sqrt(xp.sum(x * x, axis=axis, keepdims=True)).clip(1e-12, None)


def by_layer(x: Array, channels: Sequence[int], axis: int = 1) -> Iterator[Array]:
    """Yield the parts of features along an axis that belong to each layer."""
    start = 0
    before = (slice(None),) * axis
    for width in channels:
        yield x[(*before, slice(start, start + width))]
        start += width


def cell_means(planes: Array, cell: int) -> Array:
    """Average planes ``(..., H, W)`` over cells of ``cell`` x ``cell`` pixels, of which both sides are multiples."""
    *rest, height, width = planes.shape
    xp = array_namespace(planes)
    return xp.mean(xp.reshape(planes, (*rest, height // cell, cell, width // cell, cell)), axis=(-3, -1))


def grown(mask: Array, pixels: int) -> Array:
    """Grow a mask ``(H, W)``, bool, by some pixels to every side."""
    xp = array_namespace(mask)
    for axis, length in enumerate(mask.shape):
        count = xp.cumulative_sum(xp.astype(mask, xp.int32), axis=axis, include_initial=True)
        here = xp.arange(length, device=device(mask))
        ahead, behind = (here + pixels + 1).clip(None, length), (here - pixels).clip(0, None)
        mask = xp.take(count, ahead, axis=axis) > xp.take(count, behind, axis=axis)
    return mask


def framed(x: Array, value: float, cells: int = 1) -> Array:
    """Add a frame of some cells of a value to maps ``(B, C, h, w)``."""
    xp = array_namespace(x)
    rows = xp.full_like(x[:, :, :1, :], value)
    x = xp.concat([rows] * cells + [x] + [rows] * cells, axis=2)
    columns = xp.full_like(x[:, :, :, :1], value)
    return xp.concat([columns] * cells + [x] + [columns] * cells, axis=3)


def highest_around(x: Array) -> Array:
    """Return the highest value of each cell of maps ``(B, C, h, w)`` and the up to eight around it."""
    xp = array_namespace(x)
    h, w = x.shape[-2:]
    x = framed(x, -xp.inf)
    x = xp.maximum(xp.maximum(x[:, :, :h, :], x[:, :, 1 : 1 + h, :]), x[:, :, 2 : 2 + h, :])
    return xp.maximum(xp.maximum(x[..., :w], x[..., 1 : 1 + w]), x[..., 2 : 2 + w])


def largest(x: Array, count: int, fill: float) -> Array:
    """Return the ``count`` largest values along the last axis, descending; ``fill`` where there are fewer."""
    if is_torch_array(x):
        parts = [x] if _exporting() else x.split(CHUNK, dim=-1)
        return _most(array_namespace(x).concat([_most(part, count, fill) for part in parts], axis=-1), count, fill)
    rows = x.reshape(-1, x.shape[-1])
    found = np.full((len(rows), count), fill, dtype=x.dtype)
    for start in range(0, x.shape[-1], CHUNK):
        found = np.concatenate([found, rows[:, start : start + CHUNK]], axis=1)
        found = np.partition(found, found.shape[1] - count, axis=1)[:, -count:]
    return -np.sort(-found, axis=1).reshape(*x.shape[:-1], count)


def _most(x: Array, count: int, fill: float) -> Array:
    from torch.nn import functional as F  # noqa: N812, PLC0415

    # room for fewer, without a branch on their number: it would not export
    return F.pad(x, (0, count), value=fill).topk(count)[0]


def _exporting() -> bool:
    import torch  # noqa: PLC0415 - whoever has a tensor has torch

    return torch.compiler.is_compiling()


def largest_pixels(maps: Array, count: int, fill: float) -> Array:
    """Return the ``count`` largest values of each map ``(B, K, H, W)``, as :func:`largest` does, ``(B, K, count)``."""
    if is_torch_array(maps) and _exporting():
        maps = largest(maps, count, fill)  # of each row first: a graph of any size has no chunks
    return largest(array_namespace(maps).reshape(maps, (*maps.shape[:2], -1)), count, fill)


def descending(x: Array) -> Array:
    """Sort along the last axis, the largest first; the order of equal values shows nowhere."""
    # the standard's own sort of torch is a stable one, which has no word in ONNX
    return x.sort(dim=-1, descending=True).values if is_torch_array(x) else -np.sort(-x, axis=-1)


def sigmoid(x: Array) -> Array:
    """Return the logistic function of logits, minus infinity included."""
    if is_torch_array(x):
        return x.sigmoid()
    value = x / 2  # by the hyperbolic tangent, in place: maps of large images are not copied again and again
    np.tanh(value, out=value)
    value += 1
    value /= 2
    return value


def bilinear(x: Array, size: tuple[int, int], *, antialias: bool = False) -> Array:
    """Resize maps ``(B, C, H, W)`` to ``(B, C, *size)``, pixels being areas (``align_corners`` is false).

    Args:
        x: The maps; of numpy also images of uint8, which become floating point in [0, 1].
        size: Height and width of the result.
        antialias: Whether every pixel of what becomes smaller has its share in the result.
    """
    if is_torch_array(x):
        from torch.nn import functional as F  # noqa: N812, PLC0415

        return F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=antialias)
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    if not antialias and (size[0] < x.shape[-2] or size[1] < x.shape[-1]):
        msg = f"maps of {x.shape[-2:]} are not made smaller ({size}) without antialiasing here"
        raise NotImplementedError(msg)
    height, width = size
    resized = np.empty((*x.shape[:2], height, width), dtype=np.float32)
    for image, result in zip(x.reshape(-1, *x.shape[-2:]), resized.reshape(-1, height, width), strict=True):
        # Pillow's filter is a triangle as wide as the reduction, and of two pixels where there is none
        values = Image.fromarray(as_floats(image))
        result[:] = values.resize((width, height), Image.Resampling.BILINEAR)
    return resized
