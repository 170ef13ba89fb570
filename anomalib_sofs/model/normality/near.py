"""The nearest normal cell near the same place: parts that lie alike need not be searched everywhere.

A lead where there should be none looks like any other lead, but not like what a normal part shows there. Textures and
parts that lie askew are far from normal everywhere by this distance, on normal images too, so that little is left of
it in units of held-out normal cells.
"""

from collections.abc import Sequence
from itertools import product

from array_api_compat import array_namespace

from anomalib_sofs.arrays import Array, framed, unit
from anomalib_sofs.model.resizing import resize_image

REACH = 1
"""Cells to every side in which a place may have moved."""


def normal_maps(features: Sequence[Array]) -> Array:
    """Collect feature maps ``(1, D, h, w)`` of normal images, those of other sides resized to those of the first.

    Returns:
        ``(V, D, h, w)``, of length 1 along D.
    """
    xp = array_namespace(features[0])
    size = features[0].shape[-2:]
    return unit(xp.concat([f if f.shape[-2:] == size else resize_image(f, size) for f in features], axis=0), 1)


def near_distance(feature: Array, maps: Array) -> Array:
    """Return one minus the cosine to the nearest cell of any normal map within :data:`REACH` of the same place.

    Args:
        feature: ``(B, D, h, w)``.
        maps: See :func:`normal_maps`; resized to the sides of the feature.

    Returns:
        ``(B, 1, h, w)``.
    """
    xp = array_namespace(feature)
    b, d, h, w = feature.shape
    maps = unit(resize_image(maps, (h, w)), 1)
    cells = xp.reshape(xp.permute_dims(maps, (2, 3, 0, 1)), (h * w, maps.shape[0], d))
    query = framed(unit(feature, 1), 0.0, REACH)
    moves = list(product(range(2 * REACH + 1), repeat=2))
    moved = xp.stack([query[:, :, down : down + h, across : across + w] for down, across in moves], axis=0)
    # all moves in one product: h * w small ones for each of them would take ten times as long
    columns = xp.reshape(xp.permute_dims(moved, (3, 4, 2, 0, 1)), (h * w, d, len(moves) * b))
    cosines = xp.reshape(xp.max(cells @ columns, axis=1), (h, w, len(moves), b))
    best = xp.full_like(query[:, :1, :h, :w], -1.0)
    for i, (down, across) in enumerate(moves):
        found = framed(xp.permute_dims(cosines[:, :, i, :], (2, 0, 1))[:, None, ...], -1.0, REACH)
        back, aside = 2 * REACH - down, 2 * REACH - across
        best = xp.maximum(best, found[:, :, back : back + h, aside : aside + w])
    return 1 - best
