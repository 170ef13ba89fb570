"""The threshold of the model: what had that probability lies at 0.5, in maps, masks, scores and labels."""

import pytest
import torch

from anomalib_sofs import Sofs
from anomalib_sofs.model import SofsModel

from .helpers_model import backbone, default_model, marked, support

DARK = marked(120, 140, (50, 60, 57, 66), seed=1)


def strict_model(threshold: float) -> SofsModel:
    model = default_model()
    strict = SofsModel(backbone(), model.head, threshold=threshold).eval()
    strict.support = model.encode(support(DARK))
    return strict


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9, 0.99])
def test_what_has_the_threshold_as_its_probability_lies_at_a_half(threshold):
    usual, strict = strict_model(0.5), strict_model(threshold)
    image = usual.normalise(marked(128, 128, (80, 30, 87, 36), seed=2)[0])[None]
    plain, shifted = usual(image), strict(image)
    assert torch.equal(shifted.anomaly_map > 0.5, plain.anomaly_map > threshold)
    assert torch.equal(shifted.pred_score > 0.5, plain.pred_score > threshold)


def test_distances_from_normality_are_not_moved():
    usual, strict = strict_model(0.5), strict_model(0.99)
    normal = support((DARK[0], torch.zeros(120, 140)))
    image = usual.normalise(DARK[0])[None]
    assert torch.equal(usual(image, usual.encode(normal)).anomaly_map, strict(image, strict.encode(normal)).anomaly_map)


@pytest.mark.parametrize("threshold", [0, 1, -0.5, 99])
def test_a_threshold_that_is_no_probability_is_refused(threshold):
    with pytest.raises(ValueError, match=rf"threshold {threshold} is no probability between 0 and 1; 0.5 is usual"):
        SofsModel(backbone(), default_model().head, threshold=threshold)
    with pytest.raises(ValueError, match=rf"threshold={threshold} is not possible"):
        Sofs(threshold=threshold)
