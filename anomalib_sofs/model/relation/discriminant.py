"""Fisher's linear discriminant in closed form: the direction along which a marked defect leaves its background."""

from collections.abc import Iterable, Iterator, Sequence

from array_api_compat import array_namespace, device

from anomalib_sofs.arrays import Array, grown


def shrunk(covariance: Array, amount: float) -> Array:
    """Add ``amount`` times the mean variance to every direction of a covariance ``(C, C)``."""
    xp = array_namespace(covariance)
    eye = xp.eye(covariance.shape[0], dtype=covariance.dtype, device=device(covariance))
    return covariance + amount * xp.mean(xp.linalg.diagonal(covariance)) * eye


def discriminant(covariance: Array, contrast: Array, amount: float) -> Array:
    """Return the Fisher direction ``(C,)`` scaled so that the contrast has length 1 along it."""
    w = array_namespace(covariance).linalg.solve(shrunk(covariance, amount), contrast)
    return w / (w @ contrast).clip(1e-6, None)


def directions_by_layer(covariance: Array, contrast: Array, channels: Sequence[int]) -> Iterator[Array]:
    """Yield the discriminant of each layer alone ``(C,)``, 0 elsewhere."""
    start = 0
    for width in channels:
        part = slice(start, start + width)
        w = array_namespace(contrast).zeros_like(contrast)
        w[part] = discriminant(covariance[part, part], contrast[part], 1.0)
        yield w
        start += width


def variance(directions: Array, covariance: Array) -> Array:
    """Return the variance ``(k,)`` along directions ``(k, C)``."""
    return array_namespace(directions).sum((directions @ covariance) * directions, axis=1)


def mean_of(arrays: Iterable[Array]) -> Array:
    """Return the mean of arrays of one shape."""
    rows = list(arrays)
    xp = array_namespace(rows[0])
    return xp.mean(xp.stack(rows), axis=0)


def mean_cell(cells: Array, chosen: Array) -> Array:
    """Return the mean ``(C,)`` of the chosen ``(n,)`` of the cells ``(C, n)``."""
    xp = array_namespace(cells)
    return cells @ xp.astype(chosen, cells.dtype) / xp.count_nonzero(chosen)


def second_moment(cells: Array, chosen: Array) -> Array:
    """Return the mean outer product ``(C, C)`` of the chosen ``(n,)`` of the cells ``(C, n)``.

    The others become 0 instead of being left out: to gather columns takes longer than the product.
    """
    xp = array_namespace(cells)
    kept = cells * xp.astype(chosen, cells.dtype)
    return kept @ kept.T / xp.count_nonzero(chosen)


def weighted_mean(x: Array, weights: Array) -> Array:
    """Return the mean ``(C,)`` of rows ``(n, C)``."""
    xp = array_namespace(x)
    return xp.sum(x * weights[:, None], axis=0) / xp.sum(weights)


LEAST_SHARE = 0.02
"""Share of the cells that a background needs, so that its statistics mean something."""


def clear_background(mask: Array, ignored: Array | None = None) -> Array:
    """Choose background cells ``(h, w)``: one cell clear of the defect, unless that leaves next to none.

    Args:
        mask: Share of each cell that is defect ``(h, w)``, 0..1.
        ignored: Share of each cell that is neither defect nor background ``(h, w)``; ``None`` for none.
    """
    xp = array_namespace(mask)
    cells = mask.shape[0] * mask.shape[1]
    usable = xp.ones_like(mask, dtype=xp.bool) if ignored is None else ignored == 0
    for clear in (~grown(mask > 0, 1), mask == 0):
        if int(xp.count_nonzero(clear & usable)) >= LEAST_SHARE * cells:
            return clear & usable
    least = xp.sort(xp.reshape(mask, (-1,)))[max(1, int(0.05 * cells)) - 1]
    return mask <= least
