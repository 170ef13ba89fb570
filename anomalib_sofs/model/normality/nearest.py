"""The nearest normal cell: was something like this ever seen?"""

from collections.abc import Sequence

from array_api_compat import array_namespace, device

from anomalib_sofs.arrays import Array, drawn, unit

MOST_CELLS = 2048
"""Normal cells that are kept of a layer, drawn at random: bounds memory and time for any number of images."""
CHUNK = 1024
"""Normal cells that are compared at once."""


def normal_cells(features: Sequence[Array]) -> Array:
    """Collect unit cells of feature maps ``(1, D, h, w)``, always the same ones: ``(M, D)``."""
    xp = array_namespace(features[0])
    cells = unit(xp.concat([xp.reshape(f[0, ...], (f.shape[1], -1)).T for f in features], axis=0), 1)
    order = drawn(cells.shape[0], min(cells.shape[0], MOST_CELLS))
    return xp.take(cells, xp.asarray(order, dtype=xp.int64, device=device(cells)), axis=0)


def nearest_distance(feature: Array, cells: Array) -> Array:
    """Return one minus the cosine to the nearest normal cell.

    Args:
        feature: ``(B, D, h, w)``.
        cells: See :func:`normal_cells`.

    Returns:
        ``(B, 1, h, w)``.
    """
    xp = array_namespace(feature)
    b, c, h, w = feature.shape
    directions = unit(xp.reshape(feature, (b, c, h * w)), 1)
    parts = [cells[start : start + CHUNK, :] for start in range(0, cells.shape[0], CHUNK)]
    best = xp.max(xp.stack([xp.max(part @ directions, axis=1) for part in parts]), axis=0)
    return xp.reshape(1 - best, (b, 1, h, w))
