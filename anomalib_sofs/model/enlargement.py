"""An image seen larger than it is: most defects are smaller than a cell of the backbone at native scale."""

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

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
    taps = image.new_tensor(TAPS)
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")  # as the interpolation continues an image
    found = F.conv2d(padded, taps @ conv.weight @ taps.T, conv.bias)
    # only beyond the last row and column are there zeros instead
    found[:, :, -1:] = conv(enlarged(image[:, :, -2:], TWICE))[:, :, -1:]
    found[:, :, :, -1:] = conv(enlarged(image[:, :, :, -2:], TWICE))[:, :, :, -1:]
    return found
