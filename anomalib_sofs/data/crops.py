"""Non-resizing training crops, and augmentation that keeps image and mask aligned to the pixel."""

import random

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF  # noqa: N812

from anomalib_sofs.annotations.labels import IGNORE
from anomalib_sofs.model.resizing import fitted_size, resize_image, resize_mask
from anomalib_sofs.model.support_windows import covers_much
from anomalib_sofs.windows import continue_to, reflect

HALF_A_PIXEL = 0.5


def resize_whole(image: Tensor, mask: Tensor, crop: int) -> tuple[Tensor, Tensor]:
    """Resize so that the longest side is ``crop`` and continue by reflection to a square.

    Args:
        image: ``(3, H, W)``.
        mask: ``(H, W)`` of {0, 1, 255}.
        crop: Side of the result in pixels.

    Returns:
        Image ``(3, crop, crop)`` and mask ``(crop, crop)``; a defect pixel never vanishes altogether.
    """
    size = fitted_size(mask.shape[-2], mask.shape[-1], crop)
    image, share = resize_image(image, size), resize_mask((mask == 1)[None], size)[0]
    # half of a pixel, or the most defective one: a one-pixel defect survives any shrinking
    defect = (share >= HALF_A_PIXEL) | ((share > 0) & (share == share.max()))
    ignored = (resize_mask((mask == IGNORE)[None], size)[0] >= HALF_A_PIXEL) & ~defect
    mask = defect.to(mask.dtype).masked_fill(ignored, IGNORE)
    return continue_to(image, crop, crop), continue_to(mask, crop, crop)


def cut(image: Tensor, mask: Tensor, top: int, left: int, crop: int) -> tuple[Tensor, Tensor]:
    """Cut a window; where the image is smaller than ``crop`` it is continued by reflection."""
    image = image[:, top : top + crop, left : left + crop]
    mask = mask[top : top + crop, left : left + crop]
    return continue_to(image, crop, crop), continue_to(mask, crop, crop)


def crop_around(
    image: Tensor,
    mask: Tensor,
    crop: int,
    generator: random.Random,
    *,
    normal: bool = False,
) -> tuple[Tensor, Tensor]:
    """Cut a crop at native scale around a random defect pixel, with a random offset.

    Args:
        image: ``(3, H, W)``.
        mask: ``(H, W)``.
        crop: Side in pixels.
        generator: Source of randomness.
        normal: Around a random normal pixel instead (queries only).

    Returns:
        Image ``(3, crop, crop)`` and mask ``(crop, crop)``. Where the defect covers more than 1 % of the image, the
        whole image resized. Without ``normal`` the crop always holds the chosen defect pixel.
    """
    if covers_much(mask == 1):
        return resize_whole(image, mask, crop)
    height, width = mask.shape
    candidates = (mask == 0 if normal else mask == 1).nonzero()
    if len(candidates):
        y, x = (int(v) for v in candidates[generator.randrange(len(candidates))])
    else:
        y, x = generator.randrange(height), generator.randrange(width)
    top = min(max(y - generator.randrange(crop), 0), max(height - crop, 0))
    left = min(max(x - generator.randrange(crop), 0), max(width - crop, 0))
    return cut(image, mask, top, left, crop)


class Augment:
    """Colour jitter (p 0.3), rotation by up to 10 degrees (p 0.5), blur (p 0.3), horizontal flip (p 0.5).

    Randomness comes from a seed per call, so that an episode is the same whatever the number of workers. A rotation
    that would turn the whole defect out of the crop is left out.
    """

    def __init__(self) -> None:
        self.colour = v2.Compose(
            [
                v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.3),
                v2.RandomApply([v2.GaussianBlur(5, sigma=(0.1, 1.5))], p=0.3),
            ]
        )

    def __call__(self, image: Tensor, mask: Tensor, generator: random.Random) -> tuple[Tensor, Tensor]:
        """Augment ``(3, H, W)`` and ``(H, W)`` alike."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.getrandbits(32))
            image = self.colour(tv_tensors.Image(image)).as_subclass(Tensor)
        if generator.random() < 0.5:  # noqa: PLR2004
            angle = generator.uniform(-10, 10)
            image, mask = rotate(image, mask, angle)
        if generator.random() < 0.5:  # noqa: PLR2004
            image, mask = image.flip(-1), mask.flip(-1)
        return image, mask


def rotate(image: Tensor, mask: Tensor, angle: float) -> tuple[Tensor, Tensor]:
    """Rotate image (bilinear) and mask (nearest) about the centre; reflected content fills the corners.

    Args:
        image: ``(3, H, W)``.
        mask: ``(H, W)``.
        angle: Degrees, counter-clockwise.

    Returns:
        The same shapes; unchanged if no defect pixel would be left.
    """
    height, width = mask.shape
    # twice the half-diagonal of a 10 degree turn is far below a quarter of the side
    margin = max(height, width) // 4 + 2
    rows = torch.arange(-margin, height + margin)
    columns = torch.arange(-margin, width + margin)
    rows = reflect(rows, height)
    columns = reflect(columns, width)
    wide_image = image[:, rows][:, :, columns]
    wide_mask = mask[rows][:, columns]
    turned_image = TF.rotate(wide_image, angle, interpolation=v2.InterpolationMode.BILINEAR)
    turned_mask = TF.rotate(wide_mask[None], angle, interpolation=v2.InterpolationMode.NEAREST)[0]
    inner = (slice(margin, margin + height), slice(margin, margin + width))
    turned_mask = turned_mask[inner]
    if bool((mask == 1).any()) and not bool((turned_mask == 1).any()):
        return image, mask
    return turned_image[:, inner[0], inner[1]].contiguous(), turned_mask.contiguous()
