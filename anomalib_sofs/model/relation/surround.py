"""The surroundings of a cell: the mean over a square, against which local contrast is taken."""

from array_api_compat import array_namespace, device

from anomalib_sofs.arrays import Array

BOX = 17
"""Cells across the surround that the local contrast is taken against."""


def surround(x: Array) -> Array:
    """Return the mean ``(..., h, w)`` over a square of ``BOX`` cells, of those that lie inside.

    As products with matrices: several times as fast as pooling, which has no word for this in numpy either.
    """
    xp = array_namespace(x)
    return _means(x.shape[-2], x) @ x @ xp.matrix_transpose(_means(x.shape[-1], x))


def _means(length: int, like: Array) -> Array:
    """Return the matrix ``(length, length)`` that averages along an axis."""
    xp = array_namespace(like)
    cells = xp.arange(length, device=device(like))
    near = xp.astype(xp.abs(cells[:, None] - cells[None, :]) <= BOX // 2, like.dtype)
    return near / xp.sum(near, axis=1, keepdims=True)
