"""The image score: how far the peak of a probability map stands out from its own background."""

import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anomalib_sofs import Sofs
from anomalib_sofs.model.image_score import image_score

from .helpers_model import marked, support


def spotted(background, peak, height=40, width=60):
    """A map of one value with one pixel of another."""
    probability = torch.full((1, height, width), background)
    probability[0, height // 2, width // 2] = peak
    return probability


def test_on_a_plain_background_it_is_the_maximum():
    for peak in (0.001, 0.3, 0.9):
        assert float(image_score(spotted(1e-6, peak))) == pytest.approx(peak, rel=1e-3)


def test_a_raised_background_divides_the_odds():
    # odds: 9 at the peak, 1 / 99 and once 9 in the background, 1e-5 / 0.99999 on a plain one
    against = (99 * (40 * 60 - 1) + 1 / 9) / (40 * 60)
    odds = 9 * against * 1e-5 / 0.99999
    assert float(image_score(spotted(0.01, 0.9))) == pytest.approx(odds / (1 + odds), rel=1e-4)


def test_a_defect_that_covers_most_of_the_image_keeps_the_share_of_the_rest():
    probability = torch.full((1, 40, 40), 1e-6)
    probability[0, :28] = 0.95
    odds = 0.3 * 19
    assert float(image_score(probability)) == pytest.approx(odds / (1 + odds), rel=1e-4)


def test_images_of_a_batch_are_scored_by_themselves():
    scores = image_score(torch.cat([spotted(1e-6, 0.9), spotted(0.01, 0.9), spotted(1e-6, 0.2)]))
    assert scores[0] > scores[2] > scores[1]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**31), st.floats(0.1, 20))
def test_it_lies_between_0_and_the_maximum_whatever_the_size(height, width, seed, power):
    probability = torch.rand(1, height, width, generator=torch.Generator().manual_seed(seed)) ** power
    assert 0 <= float(image_score(probability)) <= float(probability.max()) + 1e-5


def test_the_exported_score_equals_torch(tmp_path):
    model = Sofs().eval()
    model.set_support(support(marked(96, 128, (40, 40, 46, 48))))
    session = onnxruntime.InferenceSession(model.to_onnx(tmp_path))
    names = [output.name for output in session.get_outputs()]
    for size in ((96, 128), (131, 77)):
        image, _ = marked(*size, (30, 30, 36, 38), seed=1)
        with torch.inference_mode():
            expected = model(image[None])
        found = dict(zip(names, session.run(None, {"input": image[None].numpy()}), strict=True))
        assert float(found["pred_score"][0]) == pytest.approx(float(expected.pred_score), abs=1e-4)
        assert float(expected.pred_score) > 0.1
