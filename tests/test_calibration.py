"""Calibration on the support: where a class is cut follows from what is found in the marked image itself."""

from functools import partial

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs.model.relation.calibration import marked_level, shift
from anomalib_sofs.model.relation.marks import stacked

from .helpers_model import crops_of, default_model, marked, support, surface

DARK = marked(128, 128, (50, 60, 57, 66), seed=1)
NORMAL = surface(96, 130, seed=3), torch.zeros(96, 130)


def test_as_many_pixels_lie_above_the_level_as_are_marked():
    logits = torch.tensor([[3.0, -1.0, 0.5], [2.0, -4.0, 1.0]])
    mask = torch.tensor([[0, 0, 1], [1, 0, 255]])
    assert float(marked_level(logits, mask)) == 1.0


@pytest.mark.parametrize(("value", "level"), [(-40.0, -5.0), (40.0, 6.0), (0.25, 0.25)])
def test_a_level_beyond_what_a_probability_tells_is_bounded(value, level):
    assert float(marked_level(torch.full((4, 4), value), torch.eye(4))) == level


@pytest.mark.parametrize(("levels", "expected"), [([3.0], 0.0), ([5.0], -1.0), ([-5.0], 4.0), ([2.0, 6.0], -0.5)])
def test_half_of_the_difference_to_the_usual_level_is_made_up_for(levels, expected):
    assert float(shift([torch.tensor(level) for level in levels])) == expected


def plain_encoding(model, pairs):
    crops = crops_of(model, *pairs)
    return model.head.statistics(
        crops.features(partial(model.head.features, model.backbone)), crops.masks, crops.labels
    )


@torch.no_grad()
def test_the_odds_move_by_what_the_head_finds_at_first_in_the_support_itself():
    model = default_model()
    plain = plain_encoding(model, [DARK])
    crops = crops_of(model, DARK)
    levels = []
    for features, mask in zip(crops.features(partial(model.head.features, model.backbone)), crops.masks, strict=True):
        logits = model.head.decide(*model.head.relate(features, stacked(list(plain.values()))))[:, :1]
        logits = F.interpolate(logits, size=mask.shape, mode="bilinear", align_corners=False)
        levels.append(logits.flatten().sort(descending=True)[0][int(mask.sum()) - 1])
    moved = model.encode(support(DARK)).encodings[0]["odds"] - plain["defect"]["odds"]
    assert float(moved) == pytest.approx(0.5 * (3 - float(torch.stack(levels).mean().clamp(-5, 6))), abs=1e-3)
    assert float(moved) != 0


@torch.no_grad()
def test_a_class_knows_how_far_its_defect_stands_out_in_its_own_crops_once_their_odds_are_moved():
    """The networks are asked once for each crop: odds are added to their logits as they are."""
    model = default_model()
    asked = []
    first = model.head.first_logits
    model.head.first_logits = lambda *given: asked.append(1) or first(*given)
    try:
        found = model.encode(support(DARK)).encodings[0]["distance"]
    finally:
        del model.head.first_logits
    plain = plain_encoding(model, [DARK])["defect"]
    crops = crops_of(model, DARK)
    assert len(asked) == len(crops.masks) == 2
    distances = []
    for features, mask in zip(crops.features(partial(model.head.features, model.backbone)), crops.masks, strict=True):
        level = marked_level(model.head.look(features, stacked([plain])).maps[0, 1], mask)
        moved = plain | {"odds": plain["odds"] + shift([level])}
        distances.append(model.head.look(features, stacked([moved])).distance[0, 0])
    assert float(found) == pytest.approx(float(sum(distances)) / 2, abs=1e-4)


def test_a_normal_image_beside_the_marked_one_has_no_level():
    model = default_model()
    pairs = [DARK, NORMAL]
    plain = plain_encoding(model, pairs)
    mixed = model.encode(support(*pairs)).encodings[0]
    level = 3 - 2 * float(mixed["odds"] - plain["defect"]["odds"])
    assert -5 <= level <= 6
    assert all(torch.equal(mixed[name], value) for name, value in plain["defect"].items() if name != "odds")


def test_encoding_is_the_same_while_training_and_leaves_the_statistics_of_batches_alone():
    model = default_model()
    before = {name: value.clone() for name, value in model.head.state_dict().items()}
    usual = model.encode(support(DARK)).encodings[0]
    model.train()
    try:
        training = model.encode(support(DARK)).encodings[0]
        assert model.head.training
    finally:
        model.eval()
    assert torch.equal(usual["odds"], training["odds"])
    assert all(torch.equal(value, before[name]) for name, value in model.head.state_dict().items())
