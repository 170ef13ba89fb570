"""Episodes that share their crops: what is in a group, and that sharing changes the cost, never the loss."""

import pytest
import torch

from anomalib_sofs import MVTecADEpisodes
from anomalib_sofs.model.episodes import own_crops, shared_crops
from anomalib_sofs.model.relation import description

from . import trees
from .helpers_model import default_model, paper_model

CLASSES = {"dent": 7, "scratch": 3}
SIZE = 6


def module(root, workers=0, **arguments):
    for name in ("cup", "can"):
        if not (root / name).is_dir():
            trees.mvtec(root, name, CLASSES)
    given = {"train_batch_size": 2 * SIZE, "episodes_per_batch": SIZE, "episodes_per_epoch": 8 * SIZE} | arguments
    made = MVTecADEpisodes(root, novel_categories=["cup"], crop_size=32, num_workers=workers, **given)
    made.setup()
    return made


def groups_of(made, count):
    return [made.train_data[number] for number in range(count)]


@pytest.mark.parametrize("shot", [1, 2])
def test_supports_are_marked_crops_of_other_images_of_the_group(tmp_path, shot):
    counts = []
    groups = groups_of(module(tmp_path, shot=shot), 40)
    for group in groups:
        assert len(group) == SIZE
        assert len({item.defect_class for item in group}) == len({item.category for item in group}) == 1
        for query in group:
            chosen = query.supports.nonzero()[:, 0].tolist()
            counts.append(len(chosen))
            assert all(group[i].gt_mask.any() for i in chosen)
            assert query.image_path not in {group[i].image_path for i in chosen}
        assert all(item.gt_mask.any() for item in group[: shot + 1])
    assert set(counts) == set(range(1, shot + 1))
    normal = sum(not item.gt_mask.any() for group in groups for item in group)
    assert normal / (40 * SIZE) == pytest.approx(0.3, abs=0.06)


def test_every_crop_is_used_as_a_support_somewhere(tmp_path):
    groups = groups_of(module(tmp_path, normal_crop_prob=0.0, shot=2), 20)
    used = torch.stack([torch.stack([item.supports for item in group]).any(0) for group in groups])
    assert used.float().mean() > 0.7


def test_batches_do_not_depend_on_the_number_of_workers(tmp_path):
    one, other = (list(module(tmp_path, workers).train_dataloader()) for workers in (0, 2))
    assert len(one) == len(other) == 4
    for a, b in zip(one, other, strict=True):
        assert a.image.shape == (2 * SIZE, 3, 32, 32)
        assert a.supports.shape == (2 * SIZE, SIZE)
        assert a.image_path == b.image_path
        assert a.image.equal(b.image)
        assert a.gt_mask.equal(b.gt_mask)
        assert a.supports.equal(b.supports)


@pytest.mark.parametrize("model", [default_model(64), paper_model()], ids=["relation", "paper"])
def test_loss_and_gradient_are_those_of_separate_episodes_at_one_encoding_per_crop(model):
    model.eval()  # no dropout
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(4, 64, 64, dtype=torch.uint8)
    for i in range(4):
        masks[i, 10 * i : 10 * i + 9, 20:31] = 1
    other = torch.tensor([1, 0, 3, 2])
    encoded = []
    count = model.backbone.register_forward_hook(lambda _module, inputs, _output: encoded.append(len(inputs[0])))
    losses, gradients = [], []
    for shared in (True, False):
        model.zero_grad()
        normalised = model.normalise(images)
        if shared:
            supports = torch.tensor([[False, True], [True, False]]).repeat(2, 1)
            loss = model.head.loss(model.backbone, shared_crops(normalised, masks, supports))
        else:
            loss = model.head.loss(
                model.backbone, own_crops(normalised, masks, normalised[other, None], masks[other, None])
            )
        loss.backward()
        losses.append(loss.detach())
        gradients.append(torch.cat([p.grad.flatten() for p in model.head.parameters() if p.grad is not None]))
    count.remove()
    assert losses[0] == pytest.approx(float(losses[1]), abs=1e-6)
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-4)
    assert encoded == [4, 4, 4]  # shared: four crops; apart: four supports and four queries


def test_a_crop_that_supports_several_episodes_is_reduced_once(monkeypatch):
    reduce, reduced = description.reduce_coarse, []
    monkeypatch.setattr(description, "reduce_coarse", lambda *given: reduced.append(given) or reduce(*given))
    model = default_model(64)
    masks = torch.zeros(4, 64, 64, dtype=torch.uint8)
    masks[:, 10:19, 20:31] = 1
    images = model.normalise(torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    model.head.loss(model.backbone, shared_crops(images, masks, ~torch.eye(4, dtype=torch.bool)))
    assert len(reduced) == 4  # for twelve supports


def test_a_step_of_part_of_a_group_is_refused(tmp_path):
    with pytest.raises(ValueError, match="train_batch_size=4 is no multiple of episodes_per_batch=3"):
        MVTecADEpisodes(tmp_path, train_batch_size=4, episodes_per_batch=3)


def test_a_group_too_small_for_the_shots_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"2 shots need at least 3 crops.*Use episodes_per_batch=4 or more, or 1"):
        module(tmp_path, shot=2, train_batch_size=3, episodes_per_batch=3)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [({}, 4), ({"train_batch_size": 16}, 16), ({"train_batch_size": 2}, 1), ({"shot": 3}, 1), ({"shot": 2}, 4)],
)
def test_a_step_shares_its_crops_where_they_are_enough(tmp_path, arguments, expected):
    assert MVTecADEpisodes(tmp_path, **arguments).episodes_per_batch == expected
