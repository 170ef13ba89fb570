"""Values of a published implementation, reproduced."""

import pytest
import torch
from safetensors.torch import load_file
from safetensors.torch import save_file as save_safetensors

from anomalib_sofs.model.paper.head import PaperHead
from anomalib_sofs.model.weights import load_into, read_state

from . import golden

pytestmark = pytest.mark.skipif(
    not golden.FOLDER.is_dir(),
    reason=f"no golden values at {golden.FOLDER}; ANOMALIB_SOFS_GOLDEN names another folder",
)

PRIORS = {"down_mask", "gap", "semantic", "abnormal", "semantic_bilinear", "abnormal_bilinear"}
LOSSES = ("dice_none", "dice_mean", "total", "total_each", "total_grad")
STEPS = {"down_mask", "gap", "semantic", "abnormal", "fused_query", "fused_support", "decoded_query", "prototype"}
EXPECTED = {
    "priors_1shot.safetensors": PRIORS,
    "priors_4shot.safetensors": PRIORS | {"semantic_per_shot", "semantic_per_shot_bilinear"},
    "losses.safetensors": {f"{name}_smooth{smooth}" for smooth in (100000, 100, 1) for name in LOSSES},
    "head_4shot.safetensors": STEPS | {"logits", "prob", "target_grid", "train_loss", "train_label"},
}


@pytest.mark.parametrize("name", golden.FILES)
def test_every_tensor_of_a_file_is_reproduced(name):
    compared = list(golden.FILES[name](golden.FOLDER / name))
    assert {key for key, *_ in compared if not key.startswith("grad.")} == EXPECTED[name]
    for key, ours, expected, relative in compared:
        limit = golden.RELATIVE if relative else golden.ABSOLUTE
        assert golden.deviation(ours.detach(), expected, relative=relative) <= limit, key


def test_every_parameter_of_the_head_has_its_golden_gradient():
    data = load_file(golden.FOLDER / "head_4shot.safetensors")
    compared = [
        key for key, *_ in golden.full_head(golden.FOLDER / "head_4shot.safetensors") if key.startswith("grad.")
    ]
    assert len(compared) == len(set(compared)) == sum(key.startswith("grad.") for key in data)


@pytest.mark.parametrize("wrapped", [None, "state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("parallel", ["", "module."])
def test_the_authors_file_loads_with_its_backbone_and_whatever_wrapped_it(tmp_path, wrapped, parallel):
    data = load_file(golden.FOLDER / "head_4shot.safetensors")
    state = {parallel + key: value for key, value in golden.published_state(data).items()}
    state |= {f"{parallel}backbone.x": torch.ones(2), f"{parallel}encoder.blocks.0.norm1.weight": torch.ones(3)}
    torch.save({wrapped: state, "epoch": 49} if wrapped else state, tmp_path / "official.pth")
    head = PaperHead([32] * 6, 16, 16)
    load_into(head, read_state(tmp_path / "official.pth"), "official.pth")
    expected = golden.head(data).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in head.state_dict().items())


def test_the_authors_names_load_from_a_safetensors_file_too(tmp_path):
    state = golden.published_state(load_file(golden.FOLDER / "head_4shot.safetensors"))
    save_safetensors(state, tmp_path / "official.safetensors")
    load_into(PaperHead([32] * 6, 16, 16), read_state(tmp_path / "official.safetensors"), "official.safetensors")
