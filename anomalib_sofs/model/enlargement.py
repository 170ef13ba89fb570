"""An image seen larger than it is: most defects are smaller than a cell of the backbone at native scale."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from .modes import recording

TWICE = 2
TAPS = ((1 / 4, 0.0, 0.0), (3 / 4, 3 / 4, 1 / 4), (0.0, 1 / 4, 3 / 4))
"""Shares of three neighbouring pixels (rows) in three of the image enlarged twice (columns), from an even one on."""


def enlarged(image: Tensor, times: int) -> Tensor:
    """Enlarge images ``(B, 3, H, W)`` so many times by bilinear interpolation."""
    return F.interpolate(image, scale_factor=float(times), mode="bilinear", align_corners=False)


def enlarged_stem(conv: nn.Conv2d, image: Tensor) -> Tensor:
    """Convolve images as if they had been enlarged twice, without enlarging them: exact, and a fraction of the work.

    Enlargement by two and a step of two cancel out: three pixels of the enlarged image behind an output are weighted
    means of three pixels of the image, so that both are one convolution of 3 x 3 of the image as it is.

    Args:
        conv: Of 3 x 3 with a stride of 2 and TensorFlow's padding: zeros below and on the right.
        image: ``(B, C, H, W)``.

    Returns:
        ``(B, D, H, W)``.
    """
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")  # as the interpolation continues an image
    if recording():
        return _by_phases(conv, padded)
    taps = image.new_tensor(TAPS)
    found = F.conv2d(padded, taps @ conv.weight @ taps.T, conv.bias)
    # only beyond the last row and column are there zeros instead
    found[:, :, -1:] = conv(enlarged(image[:, :, -2:], TWICE))[:, :, -1:]
    found[:, :, :, -1:] = conv(enlarged(image[:, :, :, -2:], TWICE))[:, :, :, -1:]
    return found


def _by_phases(conv: nn.Conv2d, padded: Tensor) -> Tensor:
    """Do the same in a graph, where nothing is written in place: even and odd rows and columns as channels.

    Engines enlarge an image of three channels slower than they convolve it.
    """
    d, c = conv.weight.shape[:2]
    taps = padded.new_tensor(TAPS).T[:TWICE]  # of an even and of an odd pixel of the enlarged image
    phases = torch.einsum("py,qx->pqyx", taps, taps).reshape(1, 4, 1, 3, 3)
    own = torch.eye(c).to(padded)[:, None, :, None, None]
    found = F.conv2d(padded, (own * phases).reshape(4 * c, c, 3, 3))
    weight = F.pad(conv.weight, (0, 1, 0, 1)).reshape(d, c, 2, 2, 2, 2).permute(0, 1, 3, 5, 2, 4)
    return F.conv2d(F.pad(found, (0, 1, 0, 1)), weight.reshape(d, 4 * c, 2, 2), conv.bias)
