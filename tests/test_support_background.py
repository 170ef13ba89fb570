"""The rest of a marked image is background: what is unmarked there is good by definition."""

import logging
from itertools import product

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from anomalib_sofs.model import Sofs, SupportSet
from anomalib_sofs.model.support_crops import SupportCrops
from anomalib_sofs.model.support_windows import place_windows, rest_windows

from .helpers_model import default_model, marked, support, surface


def crops(images: SupportSet, background: int = 16) -> SupportCrops:
    head = default_model(crop=64).head
    return SupportCrops(images, head.windows, lambda image: image, per_image=4, background=background, turns=(0, 1))


def test_the_rest_of_a_marked_image_is_seen_once_and_upright():
    seen = crops(support(marked(64, 200, (20, 20, 30, 30))))
    assert len(seen.masks) == 5  # the mark at two angles, then three of the four windows of the image
    assert [bool(mask.any()) for mask in seen.masks] == [True, True, False, False, False]
    assert seen.sources == [0] * 5
    features = list(seen.features(lambda window: [window]))
    image = seen.support.images[0]
    for (window,), start in zip(features[2:], (45, 90, 136), strict=True):
        torch.testing.assert_close(window[0], image[:, :, start : start + 64])


def test_marks_and_their_rims_are_no_background_in_other_windows():
    image, mask = marked(64, 150, (0, 40, 64, 60))
    other = torch.zeros_like(mask)
    other[30:34, 120:124] = 1
    both = SupportSet([image, image], [mask, other], ["dent", "spot"], ["part.png", "part.png"])
    seen = crops(both)
    ignored = seen.ignored[3]  # of the first image: the mark's window at two angles, then those at 0, 43 and 86
    assert ignored.shape == (64, 64)
    assert bool(ignored[:, : 60 + 8 - 43].all())
    assert not bool(ignored[:, 60 + 8 - 43 :].any())
    right = seen.ignored[4]  # where the same file shows a spot
    assert float(right.sum()) == (4 + 2 * 8) ** 2
    assert bool(right[30 - 8 : 34 + 8, 120 - 8 - 86 : 124 + 8 - 86].all())


@settings(max_examples=60, deadline=None)
@example(86, 1, [(39, 0)])  # a quarter of the image, but of no window
@given(
    st.integers(1, 300), st.integers(1, 300), st.lists(st.tuples(st.integers(0, 299), st.integers(0, 299)), max_size=3)
)
def test_every_pixel_is_seen_or_lies_in_a_window_that_shows_little_new(height, width, points):
    mask = torch.zeros(height, width)
    for y, x in points:
        mask[y % height, x % width] = 1
    taken = place_windows(mask, 64, 4)
    rest = rest_windows(mask.shape, 64, taken)
    seen = torch.zeros(height, width)
    for y, x in [*taken, *rest]:
        assert 0 <= y <= max(height - 64, 0)
        assert 0 <= x <= max(width - 64, 0)
        seen[y : y + 64, x : x + 64] = 1
    fewest = [max(-(-length // 64), 1) for length in mask.shape]
    for tile in product(*map(range, fewest)):  # spread evenly
        top, left = (
            i * max(length - 64, 0) // max(count - 1, 1)
            for i, count, length in zip(tile, fewest, mask.shape, strict=True)
        )
        assert float(seen[top : top + 64, left : left + 64].mean()) > 0.75
    assert not set(rest) & set(taken)


def test_normal_images_and_single_windows_have_no_rest():
    assert len(crops(support(marked(64, 64, (20, 20, 30, 30)))).masks) == 2
    assert len(crops(support((surface(64, 200), torch.zeros(64, 200)))).masks) == 8  # four windows at two angles


def test_windows_beyond_the_limit_are_left_out_evenly_and_it_is_said(caplog):
    image, mask = marked(64, 64 * 9, (20, 20, 30, 30))
    with caplog.at_level(logging.WARNING):
        seen = crops(SupportSet([image], [mask], paths=["long.png"]), background=4)
    assert len(seen.masks) == 2 + 4
    assert caplog.text.count("\n") == 1
    assert (
        "long.png is large: 4 of its 8 windows, spread evenly, show what its background looks like; what looks otherwise "
        "may be taken for a defect. --model.head_options.background_windows 8 takes all of them."
    ) in caplog.messages


def test_what_stands_elsewhere_on_the_marked_image_is_no_defect_in_a_query():
    """A part with a hole, far from the scratch that was marked; without its other windows the hole is found."""

    def part(seed: int, *, scratch: bool) -> tuple[torch.Tensor, torch.Tensor]:
        image, mask = marked(128, 384, (60, 30, 66, 60) if scratch else (0, 0, 0, 0), seed=seed, value=0.25)
        image[:, 50:74, 300:324] = 0.2
        return image, mask

    model = default_model(crop=128)
    query = model.normalise(part(1, scratch=False)[0])[None]
    found = {}
    for background in (0, 16):
        model.head.background_windows = background
        probability = model(query, model.encode(support(part(0, scratch=True)))).anomaly_map[0]
        found[background] = float(probability[:, 280:344].max())
    assert found[0] > 0.5
    assert found[16] < 0.5


def test_the_number_of_windows_is_an_option_of_the_head():
    assert Sofs().model.head.background_windows == 16
    assert Sofs(head_options={"background_windows": 2}).model.head.background_windows == 2
    with pytest.raises(ValueError, match=r"head_options\.background_windows is -1"):
        Sofs(head_options={"background_windows": -1})
