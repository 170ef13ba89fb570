"""The space of a normal image: is a cell made of what normal cells are made of?

One Gaussian per image and layer with a strongly shrunk covariance: directions that the image does not use count most,
as in a subspace residual, but without a rank to choose. A cell is as odd as the best matching image finds it: pooling
the images instead would make their differences look normal.
"""

import torch
from torch import Tensor

SHRINKAGE = 1.0
"""Share of the mean variance that is added to every direction; 0.1 to 3 give the same figures."""
MOST_SPACES = 16
"""Images that get a space of their own: bounds the time of a query."""


def normal_space(feature: Tensor) -> tuple[Tensor, Tensor]:
    """Describe one layer of a view of an image.

    Args:
        feature: ``(1, D, h, w)``.

    Returns:
        Mean ``(D,)`` and whitening matrix ``(D, D)``.
    """
    x = feature[0].flatten(1).T
    mean = x.mean(0)
    variance, axes = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    scale = (variance.clamp_min(0) + SHRINKAGE * variance.mean()).clamp_min(1e-6)
    return mean, axes / (scale * len(scale)).sqrt()


def space_distance(feature: Tensor, means: Tensor, whitening: Tensor) -> Tensor:
    """Return the length of cells in the nearest of k whitened spaces.

    Args:
        feature: ``(B, D, h, w)``.
        means: ``(k, D)``.
        whitening: ``(k, D, D)``.

    Returns:
        ``(B, 1, h, w)``.
    """
    b, _, h, w = feature.shape
    x = feature.flatten(2).transpose(1, 2)
    lengths = [((x - mean) @ axes).norm(dim=2) for mean, axes in zip(means, whitening, strict=True)]
    return torch.stack(lengths).amin(dim=0).view(b, 1, h, w)
