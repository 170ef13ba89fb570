"""Few-shot anomaly detection: what is held out, what becomes 0.5, and that memory does not grow with the supports."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs.annotations import notices
from anomalib_sofs.model import SupportSet
from anomalib_sofs.model.encoding import encoding_bytes
from anomalib_sofs.model.normality.cells_and_spaces import CellSpaceDetector, small_size
from anomalib_sofs.model.normality.detector import AnomalyDetector, squashed
from anomalib_sofs.model.normality.held_out import held_out
from anomalib_sofs.model.normality.near import near_distance, normal_maps
from anomalib_sofs.model.normality.nearest import MOST_CELLS, nearest_distance, normal_cells
from anomalib_sofs.model.normality.spaces import normal_space, space_distance

from .helpers_model import default_model, marked, paper_model, surface


def normal(count: int, height: int = 96, width: int = 130) -> SupportSet:
    images = [surface(height, width, seed=seed) for seed in range(count)]
    return SupportSet(images, [torch.zeros(height, width)] * count)


@pytest.mark.parametrize("model", [default_model(), paper_model()], ids=["default", "paper"])
@pytest.mark.parametrize("count", [1, 3])
@torch.no_grad()
def test_normal_parts_lie_below_a_half_and_a_defect_above(model, count):
    encoding = model.encode(normal(count))
    good = model(model.normalise(surface(96, 130, seed=77))[None], encoding)
    image, mask = marked(96, 130, (40, 50, 52, 64), seed=78)
    bad = model(model.normalise(image)[None], encoding)
    assert float(good.pred_score) < 0.5 < float(bad.pred_score)
    assert float((good.anomaly_map > 0.5).float().mean()) < 0.02
    assert bool((bad.anomaly_map[0][mask > 0] > 0.5).all())
    for result in (good, bad):
        assert 0 <= float(result.anomaly_map.min()) <= float(result.anomaly_map.max()) <= 1


@torch.no_grad()
def test_a_part_turned_by_a_quarter_is_normal_and_another_pattern_is_not():
    """Stripes across were shown; stripes up and down are the same part on another side."""
    model = default_model()
    stripes = 0.5 + 0.2 * (torch.arange(128) // 8 % 2)[:, None].expand(3, 128, 128)
    stripes = stripes + 0.02 * torch.rand(3, 128, 128, generator=torch.Generator().manual_seed(0))
    dots = 0.5 + 0.2 * ((torch.arange(128)[:, None] // 8 + torch.arange(128) // 8) % 2).expand(3, 128, 128)
    encoding = model.encode(SupportSet([stripes], [torch.zeros(128, 128)]))
    turned, other = (
        float(model(model.normalise(image)[None], encoding).pred_score)
        for image in (torch.rot90(stripes, 1, (1, 2)), dots)
    )
    assert turned < 0.5 < other


@torch.no_grad()
def test_an_image_larger_than_448_pixels_is_seen_whole_and_its_map_comes_back_at_its_size():
    model = default_model()
    encoding = model.encode(normal(1, 500, 700))
    sizes = []
    handle = model.backbone.register_forward_pre_hook(lambda _m, args: sizes.append(tuple(args[0].shape[-2:])))
    result = model(model.normalise(surface(500, 700, seed=9))[None], encoding)
    handle.remove()
    assert sizes == [(320, 448), (176, 256)]
    assert result.anomaly_map.shape == (1, 500, 700)


def test_the_encoding_is_bounded_however_many_normal_images_there_are():
    model = default_model()
    few, many = (encoding_bytes(model.encode(normal(count, 128, 160))) for count in (16, 18))
    assert few == many


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=12))
def test_nothing_is_compared_with_itself(counts):
    sources = [number for number, count in enumerate(counts) for _ in range(count)]
    views = [[torch.full((1, 2, 4, 4), float(i)), torch.full((1, 2, 2, 2), float(i))] for i in range(len(sources))]
    seen = []
    typical = []
    for rest, kept, part, stands_for_a_query in held_out(views, sources):
        assert len(rest) == len(kept) > 0
        value = float(part[0][0, 0, 0, 0])
        seen.append(value)
        if len(views) > 1:
            assert value not in {float(view[0][0, 0, 0, 0]) for view in rest}
        if len(counts) > 1:
            assert sources[int(value)] not in kept
        typical += [sources[int(value)]] * stands_for_a_query
    assert sorted(set(seen)) == [float(i) for i in range(len(views))]
    if len(counts) > 1:  # the first view of each image, which is upright
        assert sorted(typical) == list(range(len(counts)))
    else:
        assert len(typical) == len(seen)


@pytest.mark.parametrize("images", [2, 3, 18])
def test_an_image_as_it_lies_is_compared_with_its_turned_views_too(images):
    sources = [image for image in range(images) for _ in range(4)]
    views = [[torch.full((1, 2, 2, 2), float(i))] for i in range(len(sources))]
    held = list(held_out(views, sources, as_it_lies=True))
    values = [int(one.part[0][0, 0, 0, 0]) for one in held]
    assert sorted(values) == list(range(0, 4 * images, 4))
    assert [sources[value] for value in values] == [
        sources[int(one.part[0][0, 0, 0, 0])] for one in held_out(views, sources) if one.typical
    ]  # in the order of the others, whose scores theirs are weighed with
    for value, one in zip(values, held, strict=True):
        assert one.typical
        rest = {int(view[0][0, 0, 0, 0]) for view in one.rest}
        assert value not in rest
        assert {value + 1, value + 2, value + 3} < rest
        assert one.sources.count(sources[value]) == 3


def test_scores_without_and_with_the_image_tell_where_an_image_is_defective():
    """Numbers instead of features: a score is the distance to the nearest normal one, turned views lie 1 beside."""

    class Numbers(AnomalyDetector):
        def features(self, _backbone, windows):
            return [windows]

        def describe(self, views, _sources):
            return {"normal": torch.cat([view[0].flatten() for view in views])}

        def distances(self, features, encoding):
            return [(features[0].flatten()[:, None] - encoding["normal"]).abs().amin(1).view(-1, 1, 1, 1)]

        def combine(self, found, _encoding):
            return found[0]

        def score(self, maps):
            return maps.amax((1, 2, 3))

    class Crops:
        sources = (0, 0, 1, 1, 2, 2, 3, 3)

        def features(self, _extract):
            return ([torch.full((1, 1, 1, 1), value)] for value in (0.0, 1.0, 10.0, 11.0, 24.0, 25.0, 46.0, 47.0))

    encoding = Numbers(default_model().head.windows).encode(None, Crops())["defect"]
    scores = torch.tensor([0.75 * alone + 0.25 * 1 for alone in (10, 9, 13, 21)])
    assert float(encoding["score_limit"]) == pytest.approx(float(scores.mean() + scores.std(correction=0)))


def test_a_single_view_is_compared_in_quarters_unless_it_is_too_small():
    view = [torch.arange(16.0).view(1, 1, 4, 4), torch.zeros(1, 1, 2, 2)]
    parts = [held.part[0].flatten().tolist() for held in held_out([view], [0])]
    assert parts == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    tiny = [torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 1, 1)]
    ((rest, _, part, _),) = held_out([tiny], [0])
    assert rest == [tiny]
    assert part is tiny


@given(st.floats(-1e4, 1e4), st.floats(-100, 100), st.floats(0.01, 100))
def test_distances_keep_their_order_and_the_limit_becomes_a_half(distance, limit, scale):
    values = torch.tensor([distance, limit, distance + 1], dtype=torch.float64)
    low, middle, high = squashed(values, torch.tensor(limit), torch.tensor(scale)).tolist()
    assert middle == pytest.approx(0.5, abs=1e-3)
    assert 0 <= low < high <= 1


def test_the_nearest_cell_is_the_one_of_the_largest_cosine():
    generator = torch.Generator().manual_seed(0)
    support, query = torch.randn(1, 6, 5, 7, generator=generator), torch.randn(2, 6, 3, 4, generator=generator)
    found = nearest_distance(query, normal_cells([support]))
    expected = 1 - F.cosine_similarity(query.flatten(2)[..., None], support.flatten(2)[0][None, :, None], dim=1).amax(
        dim=2
    ).view(2, 1, 3, 4)
    torch.testing.assert_close(found, expected)
    assert len(normal_cells([torch.randn(1, 3, 80, 80)])) == MOST_CELLS


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(2, 6), st.integers(2, 7), st.integers(0, 10**6))
def test_the_near_cell_is_the_one_of_the_largest_cosine_one_cell_around(count, h, w, seed):
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(2, 5, h, w, generator=generator)
    support = [torch.randn(1, 5, h, w, generator=generator) for _ in range(count)]
    found = near_distance(query, normal_maps(support))
    for y in range(h):
        for x in range(w):
            around = torch.cat([m[0, :, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].flatten(1) for m in support], 1)
            cosines = F.cosine_similarity(query[:, :, y, x, None], around[None], dim=1)
            torch.testing.assert_close(found[:, 0, y, x], 1 - cosines.amax(1), rtol=1e-4, atol=1e-5)


def test_what_is_normal_elsewhere_is_not_normal_here():
    """A bright column was shown at the left; at the right any cell finds its like, but not near the same place."""
    left = torch.zeros(1, 2, 6, 12)
    left[:, 0] = 1
    left[:, :, :, 2] = torch.tensor([0.0, 1.0])[None, :, None]
    right = left.flip(3)
    anywhere, here = nearest_distance(right, normal_cells([left])), near_distance(right, normal_maps([left]))
    assert float(anywhere.max()) == pytest.approx(0, abs=1e-6)
    assert here[0, 0, 0].tolist() == pytest.approx([0] * 9 + [1] + [0] * 2, abs=1e-6)
    narrow = near_distance(left[..., :7], normal_maps([left]))  # maps of other sides are resized
    assert narrow.shape == (1, 1, 6, 7)


def test_the_image_score_is_the_top_hundredth_less_half_of_the_median():
    """Of 201 cells three are within the top hundredth: ranks 0, 1 and 2; the middle is the mean of ranks 100 and 101."""
    part = torch.arange(201.0)[torch.randperm(201, generator=torch.Generator().manual_seed(0))]
    maps = torch.stack([torch.zeros(201), part]).view(1, 2, 1, 201)
    assert CellSpaceDetector().score(maps).tolist() == [199 - 0.5 * 99.5]


@given(st.integers(4, 28), st.integers(4, 28))
def test_the_smaller_image_keeps_the_shape_of_the_window(rows, columns):
    height, width = 16 * rows, 16 * columns
    sides = small_size(height, width)
    scale = min(256 / max(height, width), 1)
    for side, length in zip(sides, (height, width), strict=True):
        assert side % 16 == 0
        assert abs(side - length * scale) <= 8 or side == 32


def test_a_space_is_white_for_its_own_cells_but_for_the_shrinkage():
    cells = torch.randn(1, 8, 40, 40, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 9)[:, None, None]
    mean, whitening = normal_space(cells)
    white = (cells[0].flatten(1).T - mean) @ whitening
    variance = cells[0].flatten(1).T.var(0, correction=0)
    shares = variance / (variance + variance.mean()) / 8
    assert white.var(0, correction=0).sort().values.tolist() == pytest.approx(shares.sort().values.tolist(), rel=0.05)
    lengths = space_distance(cells, mean[None], whitening[None])
    torch.testing.assert_close(lengths[0, 0], white.norm(dim=1).view(40, 40))


def test_images_that_are_shrunk_are_said_once(caplog):
    model, large = default_model(), normal(1, 64, 600)
    notices._said.clear()
    for _ in range(2):
        model.encode(large)
    assert (
        caplog.text.count("support image 0 has 600 pixels on its long side. Images are seen whole here, at most 448")
        == 1
    )
    notices._said.clear()
    caplog.clear()
    model.encode(normal(1, 64, 448))
    assert "long side" not in caplog.text


def test_more_normal_images_than_get_a_space_are_said(caplog):
    default_model().encode(normal(17, 40, 40))
    assert "17 normal images: the first 16 get a space of their own" in caplog.text
