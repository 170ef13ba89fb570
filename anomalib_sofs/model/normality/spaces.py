"""The space of a normal image: is a cell made of what normal cells are made of?

One Gaussian per image and layer with a strongly shrunk covariance: directions that the image does not use count most,
as in a subspace residual, but without a rank to choose. A cell is as odd as the best matching image finds it: pooling
the images instead would make their differences look normal.
"""

from array_api_compat import array_namespace

from anomalib_sofs.arrays import Array

SHRINKAGE = 1.0
"""Share of the mean variance that is added to every direction; 0.1 to 3 give the same figures."""
MOST_SPACES = 16
"""Images that get a space of their own: bounds the time of a query."""


def normal_space(feature: Array) -> tuple[Array, Array]:
    """Describe one layer of a view of an image.

    Args:
        feature: ``(1, D, h, w)``.

    Returns:
        Mean ``(D,)`` and whitening matrix ``(D, D)``.
    """
    xp = array_namespace(feature)
    x = xp.reshape(feature[0, ...], (feature.shape[1], -1)).T
    mean = xp.mean(x, axis=0)
    variance, axes = xp.linalg.eigh((x - mean).T @ (x - mean) / x.shape[0])
    scale = (variance.clip(0, None) + SHRINKAGE * xp.mean(variance)).clip(1e-6, None)
    return mean, axes / xp.sqrt(scale * scale.shape[0])


def space_distance(feature: Array, means: Array, whitening: Array) -> Array:
    """Return the length of cells in the nearest of k whitened spaces.

    Args:
        feature: ``(B, D, h, w)``.
        means: ``(k, D)``.
        whitening: ``(k, D, D)``.

    Returns:
        ``(B, 1, h, w)``.
    """
    xp = array_namespace(feature)
    b, c, h, w = feature.shape
    x = xp.matrix_transpose(xp.reshape(feature, (b, c, h * w)))
    spaces = ((x - means[i, ...]) @ whitening[i, ...] for i in range(means.shape[0]))
    lengths = [xp.linalg.vector_norm(space, axis=2) for space in spaces]
    return xp.reshape(xp.min(xp.stack(lengths), axis=0), (b, 1, h, w))
