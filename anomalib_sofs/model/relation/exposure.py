"""Exposure: every image is brought to one mean brightness, so that a darker picture of a defect has the same features.

A factor, not an offset: light multiplies what a surface sends back, and with it the contrast of a defect.
"""

import torch
from torch import Tensor

from anomalib_sofs.model.backbone import IMAGE_MEAN, IMAGE_STD

BRIGHTNESS = 0.4
"""Mean brightness, 0..1, that images are brought to."""
BLACK = 0.02
"""Added to the brightness: what is black stays black."""
MAX_GAIN = 4.0
"""Largest factor; beyond it there is more noise than picture."""


def equalise_exposure(image: Tensor) -> Tensor:
    """Scale images to one mean brightness over pixels and channels.

    Args:
        image: ``(B, 3, H, W)``, normalised with ImageNet statistics, as the result is.
    """
    mean, std = (torch.tensor(values).to(image)[:, None, None] for values in (IMAGE_MEAN, IMAGE_STD))
    brightness = (image * std + mean).mean(dim=(1, 2, 3), keepdim=True)
    gain = (BRIGHTNESS / (brightness + BLACK)).clamp(max=MAX_GAIN)
    return image * gain + (gain - 1) * mean / std
