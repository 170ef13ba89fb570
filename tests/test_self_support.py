"""Self-support: the query's own defect and background decide what else belongs to the defect."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anomalib_sofs.model.relation.marks import stacked
from anomalib_sofs.model.relation.self_support import MIDDLE, SLOPE, _background, _discriminant, self_supported
from anomalib_sofs.model.relation.whole_image import weighed

from .helpers_model import default_model, marked, support

DARK = marked(128, 128, (50, 60, 57, 66), seed=1)


def scene(seed: int = 0, channels: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features ``(1, C, 16, 16)``, a bar of defect in them, and a first opinion that is sure of its upper half only."""
    grid = torch.randn(1, channels, 16, 16, generator=torch.Generator().manual_seed(seed))
    defect = torch.zeros(16, 16, dtype=torch.bool)
    defect[2:14, 5:9] = True
    grid[0, :, defect] += 6.0
    logits = torch.full((1, 1, 32, 32), -5.0)
    logits[..., 4:28, 10:18] = -0.5
    logits[..., 4:16, 10:18] = 4.0
    return grid, defect, logits


def test_the_rest_of_a_defect_is_found_by_its_part():
    grid, defect, logits = scene()
    second, _ = self_supported(logits, grid)
    truth = defect.repeat_interleave(2, 0).repeat_interleave(2, 1)
    found = second[0, 0] > 0
    assert int((logits[0, 0] > 0).sum()) == 12 * 8  # half of the bar
    assert int(found[truth].sum()) >= 0.8 * int(truth.sum())
    assert int(found[~truth].sum()) == 0


def test_the_second_opinion_is_fishers_discriminant_of_the_query():
    grid, _, logits = scene()
    second, distance = self_supported(logits, grid)
    # the same in the textbook's words: weighted moments, a covariance shrunk by 1, an exact solution
    found = 1 / (1 + np.exp(-2 * logits[0, 0].double().numpy()))
    share = found.reshape(16, 2, 16, 2).mean((1, 3))
    x = grid[0].double().numpy()
    some = x[:, ::2, ::2].reshape(len(x), -1)
    weight = (1 - share[::2, ::2].ravel()) ** 4
    mean = np.average(some, axis=1, weights=weight)[:, None]
    deviation = np.sqrt(np.average((some - mean) ** 2, axis=1, weights=weight))[:, None]
    covariance = np.cov((some - mean) / deviation, aweights=weight, ddof=0)
    contrast = (np.average(x.reshape(len(x), -1), axis=1, weights=share.ravel())[:, None] - mean) / deviation
    direction = np.linalg.solve(covariance + np.eye(len(x)), contrast)
    squared = float((direction * contrast).sum())
    along = (direction.T @ ((x.reshape(len(x), -1) - mean) / deviation)).reshape(16, 16) / squared
    assert float(distance) == pytest.approx(np.log(squared), abs=1e-3)
    cells = along.clip(-0.5, 1.5)[5:9, 6:8]  # where neighbouring cells are alike, interpolation changes little
    inner = (second - logits)[0, 0].reshape(16, 2, 16, 2).mean((1, 3))[5:9, 6:8]
    unclipped = np.minimum(SLOPE * (cells - MIDDLE), 0)  # these pixels were the surest: they cannot gain
    assert inner.mean() == pytest.approx(unclipped.mean(), abs=0.35)


@given(st.integers(0, 10**6), st.integers(2, 24))
def test_conjugate_gradients_come_close_to_the_solution(seed, channels):
    random = torch.Generator().manual_seed(seed)
    cells = torch.randn(1, channels, 200, generator=random) * 3 + 1
    background = _background(cells, torch.rand(1, 2, 200, generator=random))
    contrast = torch.randn(1, channels, 2, generator=random)
    found = _discriminant(background, contrast)
    for k in range(2):
        scaled = (cells[0] - background.mean[0, :, k : k + 1]) * background.scale[0, :, k : k + 1]
        correlation = (scaled * background.weights[0, k]) @ scaled.T
        torch.testing.assert_close(correlation.diagonal(), torch.ones(channels), rtol=1e-3, atol=1e-3)
        exact = torch.linalg.solve(correlation + torch.eye(channels), contrast[0, :, k])
        assert float((found[0, :, k] - exact).norm() / exact.norm()) < 0.02


@given(st.integers(0, 10**6))
def test_no_pixel_becomes_surer_than_the_surest_one_was(seed):
    random = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(2, 3, 16, 12, generator=random) - 2
    second, distance = self_supported(logits, torch.randn(2, 5, 8, 6, generator=random))
    assert second.shape == logits.shape
    assert distance.shape == (2, 3)
    assert bool((second.amax((2, 3)) <= logits.amax((2, 3))).all())


def test_units_and_offsets_of_the_features_are_of_no_account():
    grid, _, logits = scene()
    scale, offset = torch.linspace(0.5, 20, 12)[:, None, None], torch.linspace(-5, 5, 12)[:, None, None]
    for one, other in zip(self_supported(logits, grid), self_supported(logits, grid * scale + offset), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_a_class_that_is_not_there_changes_nothing_for_the_others():
    grid, _, logits = scene()
    both, distance = self_supported(torch.cat([logits, torch.full_like(logits, -20.0)], 1), grid)
    alone, alone_distance = self_supported(logits, grid)
    torch.testing.assert_close(both[:, :1], alone)
    torch.testing.assert_close(distance[:, :1], alone_distance, rtol=2e-5, atol=1e-5)
    assert float(both[:, 1].max()) <= -20


def test_what_stands_out_more_is_further_away():
    grid, defect, logits = scene()
    weak = grid.clone()
    weak[0, :, defect] -= 5.0
    assert float(self_supported(logits, grid)[1]) > float(self_supported(logits, weak)[1]) + 1


@torch.no_grad()
def test_evidence_compares_the_distance_with_that_of_the_marked_defect():
    model = default_model()
    encoding = model.encode(support(DARK)).encodings[0]
    image = model.normalise(DARK[0])[None]
    features = model.head.features(model.backbone, image)
    classes = stacked([encoding])
    first = model.head.first_logits(features, classes)
    second, distance = self_supported(first, features[0])
    result = weighed(model.head.look(features, classes), classes)
    enlarged = partial(torch.nn.functional.interpolate, size=image.shape[-2:], mode="bilinear")
    torch.testing.assert_close(result[:, :1], enlarged(second), atol=1e-4, rtol=0)
    evidence = first + (distance - encoding["distance"])[..., None, None]
    torch.testing.assert_close(result[:, 1:], enlarged(evidence), atol=1e-4, rtol=0)
    assert abs(float(distance - encoding["distance"])) < 0.5  # it is the marked image itself
