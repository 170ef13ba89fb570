"""Other precisions and devices: closed forms are computed in float32 whatever the model's own precision is."""

import copy

import pytest
import torch

from anomalib_sofs import Sofs
from anomalib_sofs.model import SupportSet
from anomalib_sofs.model.encoding import SupportEncoding

from .helpers_model import default_model, marked, paper_model, support, surface

DARK = marked(120, 140, (50, 60, 57, 66), seed=1)
QUERY = marked(128, 128, (80, 30, 87, 36), seed=2)[0]
NORMAL = SupportSet([surface(96, 130, seed=3)], [torch.zeros(96, 130)])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 1e-2), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("task", ["marked", "normal"])
@torch.no_grad()
def test_autocast_gives_finite_maps_close_to_those_of_float32(dtype, tolerance, task):
    model = default_model()
    image = model.normalise(QUERY)[None]
    examples = support(DARK) if task == "marked" else NORMAL
    expected = model(image, model.encode(examples))
    with torch.autocast("cpu", dtype):
        found = model(image, model.encode(examples))
    assert found.anomaly_map.dtype == torch.float32
    assert bool(torch.isfinite(found.anomaly_map).all())
    # the defect of a few pixels is found in both; one percent of the pixels, at its edge, may differ by more
    difference = (found.anomaly_map - expected.anomaly_map).abs().flatten()
    assert float(difference.quantile(0.99)) < tolerance
    assert float(found.pred_score) == pytest.approx(float(expected.pred_score), abs=5 * tolerance)


@pytest.mark.parametrize("make", [default_model, paper_model])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@torch.no_grad()
def test_a_model_of_another_precision_takes_its_support_along(make, dtype):
    model = make()
    model.support = model.encode(support(DARK))
    image = model.normalise(QUERY)[None]
    expected = model(image).anomaly_map
    other = copy.deepcopy(model).to(dtype)  # the tests share one backbone
    assert {tensor.dtype for tensor in other.support.buffers() if tensor.is_floating_point()} == {torch.float32}
    found = other(other.normalise(QUERY)[None]).anomaly_map
    assert bool(torch.isfinite(found).all())
    assert float((found - expected).abs().quantile(0.99)) < (5e-2 if dtype == torch.bfloat16 else 1e-4)


def test_an_encoding_stays_on_the_device_that_encoded_the_support():
    """Nothing of it is on the CPU then: a prediction would mix devices."""
    encoding = SupportEncoding({"dent": {"cells": torch.empty(3, 2, device="meta")}})
    assert {buffer.device.type for buffer in encoding.buffers()} == {"meta"}


def test_a_support_follows_the_model_to_another_device():
    """The meta device: every tensor of the model is on it, those of the support among them, also after loading."""
    sofs = Sofs()
    sofs.set_support(support(DARK))
    state = sofs.state_dict()
    sofs.to("meta")
    assert {tensor.device.type for tensor in sofs.model.support.buffers()} == {"meta"}
    sofs.load_state_dict(state)
    assert {tensor.device.type for tensor in sofs.model.support.buffers()} == {"meta"}


def test_weights_of_a_head_leave_the_stored_support_as_it_is():
    sofs = Sofs().eval()
    sofs.set_support(support(DARK))
    image = sofs.model.normalise(QUERY)[None]
    with torch.no_grad():
        expected = sofs.model(image).anomaly_map
        weights = {name: value for name, value in sofs.state_dict().items() if name.startswith("model.head.")}
        sofs.load_state_dict(weights, strict=False)
        assert torch.equal(sofs.model(image).anomaly_map, expected)


def test_an_encoding_of_another_version_is_refused():
    sofs = Sofs()
    sofs.set_support(support(DARK))
    state = sofs.state_dict()
    state["model.support._extra_state"] = {**state["model.support._extra_state"], "version": 1}
    with pytest.raises(ValueError, match=r"support encoding is of version 1.* Encode the support again: pass support="):
        Sofs().load_state_dict(state)


def test_batch_statistics_stay_frozen_after_a_checkpoint_was_loaded():
    trained = Sofs().model.head
    other = Sofs(weights=None).model.head
    assert not bool(other.norms_frozen)
    other.load_state_dict(trained.state_dict())
    other.train()
    before = {name: value.clone() for name, value in other.state_dict().items() if "running" in name}
    other.decide(torch.randn(2, 24, 16, 16), torch.randn(2, 7, 32, 32))
    assert all(torch.equal(other.state_dict()[name], value) for name, value in before.items())
