"""Plain parts that the packaged network learns from: marks of one kind on a flat tone."""

import sys
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from .conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "tools"))
import plain_parts


@given(seed=st.integers(0, 2**32))
def test_a_good_part_has_no_defect_and_the_same_seed_makes_the_same_part(seed):
    for good in (True, False):
        kinds = (plain_parts.Kind(Random(seed)) for _ in range(2))  # noqa: S311 - repeatable, not secret
        (image, mask), (again, mask_again) = (kind.picture(good=good) for kind in kinds)
        assert image.dtype == mask.dtype == np.uint8
        assert image.shape == (*mask.shape, 3)
        assert mask.shape in plain_parts.SIDES
        assert set(np.unique(mask)) <= {0, 1}
        assert not (good and mask.any())
        assert (image == again).all()
        assert (mask == mask_again).all()


@pytest.mark.parametrize("shape", plain_parts.SHAPES)
def test_the_mask_is_where_the_mark_changes_the_part(shape):
    kind = plain_parts.Kind(Random(1))  # noqa: S311
    kind.tone, kind.noise, kind.usual = np.full(3, 0.5), 0.0, None
    kind.defect = plain_parts.Mark(shape, 8.0, 0.4, (-0.3, -0.3, -0.3))
    seen = 0
    for _ in range(20):
        image, mask = kind.picture(good=False)
        grey = image[..., 0].astype(int)
        assert (
            grey[mask > 0] <= 128 - 0.5 * 0.8 * 0.3 * 255 + 1
        ).all()  # at least half of a pixel, in the weakest gain
        assert (grey[mask == 0] >= 128 - 3 * 1.2 * 0.5 * 0.3 * 255 - 1).all()  # three marks may touch
        seen += mask.any()
    assert seen >= 18  # now and then one lies beyond the border
