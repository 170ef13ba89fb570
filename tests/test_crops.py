"""Properties of the non-resizing procedure, on images of which every channel is the mask."""

# ruff: noqa: S311

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from anomalib_sofs.data.crops import Augment, crop_around, resize_whole, rotate
from anomalib_sofs.windows import Windows, apply_in_windows

settings.register_profile("quick", max_examples=60, deadline=None)
settings.load_profile("quick")

sides = st.integers(1, 70)
crops = st.sampled_from([8, 16, 32, 48])
seeds = st.integers(0, 2**32 - 1)


@st.composite
def masks(draw, side=sides) -> Tensor:
    """A mask of any size with one to four small defects anywhere, also at the border."""
    height, width = draw(side), draw(side)
    mask = torch.zeros(height, width, dtype=torch.uint8)
    for _ in range(draw(st.integers(1, 4))):
        y, x = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        mask[y : y + draw(st.integers(1, 3)), x : x + draw(st.integers(1, 3))] = 1
    return mask


def one_pixel(draw_y: int, draw_x: int, height: int = 200, width: int = 210) -> Tensor:
    mask = torch.zeros(height, width, dtype=torch.uint8)
    mask[draw_y % height, draw_x % width] = 1
    return mask


def image_of(mask: Tensor) -> Tensor:
    """An image whose every channel is the mask, so that both must stay the same whatever is done to them."""
    return mask.float().expand(3, -1, -1).clone()


def choices(seed: int) -> tuple[bool, bool]:
    """Whether an augmentation with this seed rotates, and if not, whether it flips."""
    generator = random.Random(seed)
    generator.getrandbits(32)
    rotated = generator.random() < 0.5
    return rotated, not rotated and generator.random() < 0.5


@given(masks(), crops, seeds)
def test_support_crop_always_contains_defect(mask, crop, seed):
    image, cropped = crop_around(image_of(mask), mask, crop, random.Random(seed))
    assert image.shape == (3, crop, crop)
    assert cropped.shape == (crop, crop)
    assert cropped.any()


@given(masks(), crops, seeds)
def test_augmented_support_crop_still_contains_defect(mask, crop, seed):
    generator = random.Random(seed)
    image, cropped = crop_around(image_of(mask), mask, crop, generator)
    image, cropped = Augment()(image, cropped, generator)
    assert image.shape == (3, crop, crop)
    assert cropped.any()
    assert set(cropped.unique().tolist()) <= {0, 1}
    assert image.min() >= -1e-5
    assert image.max() <= 1 + 1e-5


@given(st.integers(0, 199), st.integers(0, 209), crops, seeds, st.booleans())
def test_native_crop_keeps_image_and_mask_aligned(y, x, crop, seed, normal):
    mask = one_pixel(y, x)  # far below 1 %: never resized
    image, cropped = crop_around(image_of(mask), mask, crop, random.Random(seed), normal=normal)
    assert image.equal(image_of(cropped))


@given(st.integers(0, 6), st.integers(0, 299), st.integers(1, 7), st.integers(150, 300), seeds)
def test_image_smaller_than_the_crop_is_continued_not_stretched(y, x, height, width, seed):
    mask = one_pixel(y, x, height, width)
    image, cropped = crop_around(image_of(mask), mask, 16, random.Random(seed))
    assert image.equal(image_of(cropped))
    assert cropped[:height].sum() == 1  # native pixels on top, their reflection below
    if height > 1:
        assert cropped[height].equal(cropped[height - 2])


@pytest.mark.parametrize("corner", [(0, 0), (0, 209), (199, 0), (199, 209)])
def test_crop_at_a_corner_holds_native_pixels(corner):
    mask = one_pixel(*corner)
    for seed in range(30):
        image, cropped = crop_around(image_of(mask), mask, 32, random.Random(seed))
        assert image.equal(image_of(cropped))
        assert cropped.sum() == 1


@given(st.integers(0, 199), st.integers(0, 209), seeds)
def test_random_offset_reaches_every_place_but_never_leaves_the_pixel_out(y, x, seed):
    mask = one_pixel(y, x)
    _, cropped = crop_around(image_of(mask), mask, 24, random.Random(seed))
    assert cropped.sum() == 1


def test_offsets_differ():
    mask = one_pixel(100, 100)
    places = {
        tuple(crop_around(image_of(mask), mask, 24, random.Random(seed))[1].nonzero()[0].tolist()) for seed in range(50)
    }
    assert len(places) > 40


@given(masks(st.integers(1, 300)), st.sampled_from([8, 16, 32]))
@settings(max_examples=40)
def test_shrinking_a_whole_image_keeps_a_one_pixel_defect(mask, crop):
    only = torch.zeros_like(mask)
    y, x = mask.nonzero()[0]
    only[y, x] = 1
    _, resized = resize_whole(image_of(only), only, crop)
    assert resized.any()


@given(masks(st.integers(8, 60)), seeds)
def test_flip_keeps_image_and_mask_aligned(mask, seed):
    augment = Augment()
    augment.colour = lambda image: image
    rotated, flipped = choices(seed)
    image, after = augment(image_of(mask), mask, random.Random(seed))
    assert after.any()
    if not rotated:
        assert image.equal(image_of(after))
        assert after.equal(mask.flip(-1) if flipped else mask)


@given(masks(st.integers(8, 60)), st.floats(-10, 10))
def test_rotation_keeps_image_and_mask_aligned_to_the_pixel(mask, angle):
    image, turned = rotate(image_of(mask), mask, angle)
    assert image.shape[-2:] == turned.shape == mask.shape
    assert turned.any()
    # the nearest source pixel, which the mask takes, has at least a quarter of the weight in the bilinear image
    assert image[:, turned > 0].min() >= 0.249
    if (turned == 0).any():
        assert image[:, turned == 0].max() <= 0.751


@given(seeds)
def test_colour_changes_leave_the_mask_alone(seed):
    mask = one_pixel(5, 5, 24, 24)
    _, after = Augment()(torch.rand(3, 24, 24), mask, random.Random(seed))
    rotated, flipped = choices(seed)
    if not rotated:
        assert after.equal(mask.flip(-1) if flipped else mask)


@given(st.integers(1, 150), st.integers(1, 150), st.sampled_from([16, 32, 64]), st.booleans())
def test_windows_cover_every_pixel_and_average_to_what_they_saw(height, width, crop, fixed):
    image = torch.rand(1, 3, height, width)
    shapes = set()

    def segment(windows: Tensor) -> Tensor:
        shapes.add(tuple(windows.shape[-2:]))
        return windows[:, :1]

    seen = apply_in_windows(image, segment, Windows(crop, 8, fixed=fixed))
    assert torch.allclose(seen, image[:, :1], atol=1e-5)
    constant = apply_in_windows(
        image, lambda windows: torch.full_like(windows[:, :1], 0.25), Windows(crop, 8, fixed=fixed)
    )
    assert torch.allclose(constant, torch.full((1, 1, height, width), 0.25))
    # a window may be an eighth larger than its size, where one less then covers the image
    assert all(max(h, w) <= Windows(crop, 8, fixed=fixed).most <= crop + 8 and h % 8 == w % 8 == 0 for h, w in shapes)
    if fixed:
        assert shapes == {(crop, crop)}


def test_one_pixel_survives_windows():
    image = torch.zeros(1, 3, 131, 77)
    image[..., 100, 70] = 1
    seen = apply_in_windows(image, lambda windows: windows[:, :1], Windows(32, 8))
    assert seen[0, 0].nonzero().tolist() == [[100, 70]]
    assert seen.max() == pytest.approx(1)
