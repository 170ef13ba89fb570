"""Whole images are resized without losing thin things, in eager mode and in exported graphs alike."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2.functional import resize

from anomalib_sofs.model.resizing import fitted_size, resize_image, resize_mask

sides = st.integers(1, 90)


@settings(max_examples=40, deadline=None)
@given(sides, sides, sides, sides)
def test_images_are_resized_as_torchvision_does_with_antialiasing(height, width, rows, columns):
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(height * 97 + width))
    expected = resize(image, [rows, columns], antialias=True)
    torch.testing.assert_close(resize_image(image, (rows, columns)), expected, atol=2e-4, rtol=0)


@settings(max_examples=40, deadline=None)
@given(sides, sides, st.integers(1, 60))
def test_a_mask_keeps_its_share_of_the_image(height, width, longest):
    mask = (torch.rand(1, height, width, generator=torch.Generator().manual_seed(height)) < 0.1).float()
    size = fitted_size(height, width, longest)
    small = resize_mask(mask, size)
    assert max(size) == longest
    assert bool(small.any()) == bool(mask.any())
    assert float(small.mean()) == pytest.approx(float(mask.mean()), abs=1e-5)


@pytest.mark.parametrize(("sides", "expected"), [((100, 50), (64, 32)), ((3, 1000), (1, 64)), ((64, 64), (64, 64))])
def test_the_longest_side_is_fitted(sides, expected):
    assert fitted_size(*sides, 64) == expected
