"""Windows cover every pixel, overlaps are averaged, and the exported branch does the same as the eager one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs.window_loop import exporting_loops
from anomalib_sofs.windows import Axis, Windows, apply_in_groups, apply_in_windows, continue_to, reflect

from .helpers_model import default_model, marked, support

quick = settings(max_examples=25, deadline=None)
MULTIPLE = 4

sides = st.integers(1, 61)
crops = st.sampled_from([4, 8, 12, 32])
fixed = st.booleans()


def in_windows(image, segment, crop, *, multiple=MULTIPLE, fixed=False, traced=False, groups=1):
    """The loops of a graph need a run in eager mode before."""
    with exporting_loops(), pytest.MonkeyPatch.context() as patch:
        for compiling in {False, traced}:
            patch.setattr(torch.compiler, "is_compiling", lambda compiling=compiling: compiling)
            result = apply_in_groups(image, segment, Windows(crop, multiple, fixed=fixed), groups)
        return result if groups > 1 else result[0]


def position_dependent(windows):
    """A segmentation whose result depends on the place within the window, with two maps."""
    height, width = windows.shape[-2:]
    ramp = torch.arange(height)[:, None] * 0.01 + torch.arange(width) * 0.1
    return torch.stack([windows.mean(1) + ramp, windows.amax((1, 2, 3))[:, None, None] * ramp], dim=1)


@quick
@given(sides, sides, crops, fixed)
def test_maps_that_copy_the_image_come_back_unchanged(height, width, crop, fixed):
    image = torch.rand(2, 3, height, width)
    for traced in (False, True):
        result = in_windows(image, lambda w: w[:, :1], crop, fixed=fixed, traced=traced)
        torch.testing.assert_close(result, image[:, :1], atol=1e-5, rtol=0)


@quick
@given(sides, sides, crops, fixed)
def test_constant_maps_stay_constant_and_windows_have_legal_sides(height, width, crop, fixed):
    seen = []

    def constant(windows):
        seen.append(tuple(windows.shape[-2:]))
        return torch.full((len(windows), 2, *windows.shape[-2:]), 0.7)

    result = in_windows(torch.zeros(1, 3, height, width), constant, crop, fixed=fixed)
    assert result.shape == (1, 2, height, width)
    torch.testing.assert_close(result, torch.full_like(result, 0.7), atol=1e-6, rtol=0)
    for side in {side for size in seen for side in size}:
        assert side == crop if fixed else side <= Windows(crop, MULTIPLE).most and side % MULTIPLE == 0


@quick
@given(sides, sides, crops, fixed)
def test_the_traced_branch_equals_the_eager_one(height, width, crop, fixed):
    image = torch.rand(2, 3, height, width)
    eager = in_windows(image, position_dependent, crop, fixed=fixed)
    traced = in_windows(image, position_dependent, crop, fixed=fixed, traced=True)
    torch.testing.assert_close(traced, eager, atol=1e-4, rtol=0)


@quick
@given(sides, sides, crops, fixed, st.booleans())
def test_maps_smaller_than_their_window_are_enlarged(height, width, crop, fixed, traced):
    def small(windows):
        return F.avg_pool2d(position_dependent(windows), 2)

    def enlarged(windows):
        return F.interpolate(small(windows), scale_factor=2.0, mode="bilinear", align_corners=False)

    image = torch.rand(2, 3, height, width)
    expected = in_windows(image, enlarged, crop, fixed=fixed)
    found = in_windows(image, small, crop, fixed=fixed, traced=traced)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@quick
@given(sides, sides, crops, st.booleans())
def test_groups_are_the_maps_in_parts(height, width, crop, traced):
    image = torch.rand(2, 3, height, width)
    expected = in_windows(image, position_dependent, crop)
    first, second = in_windows(image, position_dependent, crop, traced=traced, groups=2)
    torch.testing.assert_close(torch.cat([first, second], dim=1), expected, atol=1e-4, rtol=0)


@quick
@given(st.integers(1, 300), st.sampled_from([8, 16, 64]), fixed)
def test_windows_cover_every_pixel_once_or_twice_and_neighbours_share_an_eighth(length, crop, fixed):
    windows = Windows(crop, MULTIPLE, fixed=fixed)
    axis = Axis.place(length, windows)
    starts = [axis.step * number for number in range(axis.count)]
    covered = torch.zeros(length)
    for start in starts:
        assert start < length
        covered[start : start + axis.size] += 1
    assert covered.min() >= 1
    assert covered.max() <= 2
    assert axis.size <= windows.most
    assert axis.count == 1 or axis.size - axis.step >= int(crop / 8)


@pytest.mark.parametrize(("length", "size", "count"), [(512, 512, 1), (600, 352, 2), (1024, 544, 2), (2048, 576, 4)])
def test_few_windows_with_a_small_overlap(length, size, count):
    assert Axis.place(length, Windows())[1:3] == (size, count)


def test_overlaps_hold_the_mean_of_their_windows():
    values = iter([0.0, 1.0])
    result = in_windows(torch.zeros(1, 3, 8, 12), lambda w: torch.full_like(w[:, :1], next(values)), 8, fixed=True)
    expected = torch.tensor([0.0] * 4 + [0.5] * 4 + [1.0] * 4).expand(8, 12)
    assert torch.equal(result[0, 0], expected)


def test_four_windows_meet_in_the_middle():
    values = iter([0.0, 1.0, 2.0, 5.0])
    result = in_windows(torch.zeros(1, 3, 12, 12), lambda w: torch.full_like(w[:, :1], next(values)), 8, fixed=True)[
        0, 0
    ]
    rows = [result[i, [0, 4, 11]].tolist() for i in (0, 4, 11)]
    assert rows == [[0.0, 0.5, 1.0], [1.0, 2.0, 3.0], [2.0, 3.5, 5.0]]


def test_a_small_image_is_continued_by_reflection():
    assert reflect(torch.arange(9), 4).tolist() == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert reflect(torch.arange(5), 1).tolist() == [0] * 5
    image = torch.tensor([[1.0, 2.0, 3.0]]).expand(1, 3, 1, 3)
    assert continue_to(image, 2, 5)[0, 0].tolist() == [[1, 2, 3, 2, 1]] * 2


def test_a_large_query_is_cut_into_single_windows():
    """4096 x 4096 pixels: the segmentation never sees more than one window, so its memory does not grow."""
    seen = []

    def cheap(windows):
        seen.append(tuple(windows.shape))
        return windows[:, :1]

    image = torch.rand(1, 3, 4096, 4096)
    result = apply_in_windows(image, cheap, Windows(1024, 32))
    assert result.shape == (1, 1, 4096, 4096)
    assert set(seen) == {(1, 3, 1120, 1120)}
    assert len(seen) == 16
    assert float((result[0, 0] - image[0, 0]).abs().max()) < 1e-5


@pytest.mark.parametrize("size", [(1, 1), (7, 150), (128, 128), (129, 131), (200, 64)])
def test_the_model_answers_at_the_size_of_the_query(size):
    model = default_model(crop=64)
    model.support = model.encode(support(marked(150, 170, (60, 60, 66, 68))))
    result = model(torch.zeros(1, 3, *size))
    assert result.anomaly_map.shape == (1, *size)
    assert torch.isfinite(result.anomaly_map).all()
    assert 0 <= float(result.pred_score) <= float(result.anomaly_map.max().clamp(min=1e-5)) + 1e-6
    assert 0 <= float(result.anomaly_map.min()) <= float(result.anomaly_map.max()) <= 1


def test_a_window_size_off_the_stride_is_refused():
    with pytest.raises(
        ValueError, match="window_size 100 is not a multiple of 32 pixels, as tf_efficientnet_lite0 needs it"
    ):
        default_model(crop=100)
