"""The trainer of the paper's form: its windows, its episodes side by side, and the file that it writes."""

import json
import logging
import random
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from anomalib_sofs import Sofs
from anomalib_sofs.model.downsampling import downsample_mask
from anomalib_sofs.model.episodes import one_by_one
from anomalib_sofs.model.paper.head import PaperHead
from anomalib_sofs.model.weights import read_state

from .conftest import REPOSITORY
from .helpers_model import LITE, backbone

sys.path.insert(0, str(REPOSITORY / "tools"))
import picture_bank
import rendered_groups
import train_paper_head


def pictures(size=(40, 48), marks=3, good=1, seed=0, side=6) -> rendered_groups.Pictures:
    """Noise; each marked picture has a dark square."""
    generator = torch.Generator().manual_seed(seed)

    def picture(box):
        image = torch.randint(80, 200, (3, *size), dtype=torch.uint8, generator=generator)
        mask = torch.zeros(size, dtype=torch.uint8)
        if box is not None:
            mask[box : box + side, 10 : 10 + side] = 1
            image[:, mask > 0] = 0
        return rendered_groups.Picture(image, mask)

    return rendered_groups.Pictures([picture(4 + 3 * i) for i in range(marks)], [picture(None) for _ in range(good)])


def bank_of(*groups, resized=None) -> picture_bank.PictureBank:
    bank = picture_bank.PictureBank(torch.device("cpu"))
    for group in groups:
        bank.add(group, resized)
    return bank


# -- windows -------------------------------------------------------------------------------------------------------


def test_a_window_larger_than_the_picture_is_continued_by_reflection():
    first, second = pictures(), pictures((64, 32), seed=1)
    bank = bank_of(first, second)
    images, masks = bank.windows([bank.groups[0].marked[1], bank.groups[1].good[0]], 64)
    assert (images.shape, masks.shape) == ((2, 3, 64, 64), (2, 64, 64))
    assert torch.equal((255 * images[0, :, :40, :48]).round().byte(), first.marked[1].image)
    assert torch.equal(images[0, :, 40], images[0, :, 38])
    assert torch.equal(masks[0, :40, :48].byte(), first.marked[1].mask)
    assert torch.equal((255 * images[1, :, :, :32]).round().byte(), second.good[0].image)
    assert not masks[1].any()


@pytest.mark.parametrize("turn", range(8))
def test_a_smaller_window_shows_the_defect_wherever_it_lies_and_image_and_mask_turn_alike(turn):
    group = pictures()
    bank, rng = bank_of(group), random.Random(turn)  # noqa: S311
    places = bank.groups[0].marked * 5
    images, masks = bank.windows(places, 16, rng, turn)
    assert bool((masks.sum((1, 2)) > 0).all())
    assert torch.equal(images.amax(1) == 0, masks > 0)
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) > 3


def test_resized_pictures_fill_a_window():
    bank = bank_of(pictures((40, 80)), resized=32)
    _, masks = bank.windows(bank.groups[0].marked, 32)
    assert [(p.height, p.width) for p in bank.groups[0].marked] == [(32, 32)] * 3
    assert bool((masks[:, :16].sum((1, 2)) > 0).all())  # a defect of six pixels is still there, and once more below


# -- episodes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shots", [1, 2])
@pytest.mark.parametrize("options", [{}, {"abnormal_prior": False}, {"mask_downsampling": "bilinear"}])
def test_episodes_side_by_side_are_the_episodes_one_by_one(shots, options):
    torch.manual_seed(0)
    seen = backbone(head="paper")
    head = PaperHead(seen.channels, 16, 16, scale_features=True, window_size=64, **options).eval()
    bank = bank_of(pictures(), pictures((64, 64), seed=1), pictures((50, 70), seed=2))
    groups = bank.groups
    supports = [place for group in groups for place in group.marked[1 : 1 + shots]]
    queries, _ = bank.windows([group.marked[0] for group in groups], 64)
    images, masks = bank.windows(supports, 64)
    query, support = head.features(seen, queries), head.features(seen, images)
    shares = downsample_mask(masks, query[0].shape[-2:], head.mask_downsampling)
    with torch.no_grad():
        found = train_paper_head.episode_logits(head, query, support, shares)
        for i, one in enumerate(one_by_one(query)):
            rows = slice(shots * i, shots * (i + 1))
            encoding = head.encode_class([layer[rows] for layer in support], masks[rows])
            assert torch.allclose(found[i], head.classify(one, [encoding])[0, 0], atol=1e-5, rtol=1e-5)


# -- the file ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What the command writes after two steps on pictures that lie in its cache."""
    folder = tmp_path_factory.mktemp("training")
    for name in ("trained", "held-out"):
        (folder / name).mkdir()
        rows = [
            (i, [tuple(p) for p in group.marked], [tuple(p) for p in group.good])
            for i, group in enumerate(pictures((64, 64), seed=i, side=4 + 12 * (i % 2)) for i in range(3))
        ]
        torch.save(rows, folder / name / "groups-00000.pt")
    file = folder / "head.safetensors"
    command = f"train --cache {folder} --out {file} --device cpu --groups 20 --steps 2 --batch 2 --window 64 --dim 8"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [*command.split(), "--check-every", "2", "--no-abnormal-prior"])
        train_paper_head.main()
    return file


def test_the_trainer_writes_a_file_that_says_how_its_head_is_built(trained):
    with safe_open(trained, "pt") as file:
        metadata = file.metadata()
    assert metadata["trained_by"] == "tools/train_paper_head.py --seed 1 --groups 20 --steps 2"
    assert {value.dtype for value in read_state(trained).values()} == {torch.float16}
    assert json.loads(metadata["built"])["window_size"] == 64
    assert [file.name for file in trained.parent.glob("head*")] == ["head.safetensors"]  # nothing half-written


def test_sofs_takes_layers_window_and_options_from_the_file_and_says_so(trained, caplog):
    with caplog.at_level(logging.INFO, "anomalib_sofs"):
        model = Sofs(head="paper", weights=trained)
    head = model.model.head
    assert (head.windows.size, head.scale_features, head.use_abnormal_prior) == (64, True, False)
    assert "head.safetensors was trained with {'layers': [2, 3], 'window_size': 64" in caplog.text
    assert bool(model.model.head_trained)
    # a checkpoint carries the weights and these arguments, not the file
    assert model.hparams["weights"] is None
    again = Sofs(**{name: model.hparams[name] for name in ("head", "weights", "layers", "window_size", "head_options")})
    assert again.model.head.state_dict().keys() == head.state_dict().keys()
    assert again.model.head.scale_features


def test_what_is_given_wins_with_a_warning_where_it_contradicts_the_file(trained, caplog):
    model = Sofs(head="paper", weights=trained, window_size=96, head_options={"scale_features": False, "coreset": 10})
    assert (model.model.head.windows.size, model.model.head.scale_features) == (96, False)
    assert "head.safetensors was trained with head_options.scale_features True: with False its figures" in caplog.text
    assert "coreset" not in caplog.text


def test_a_file_that_says_nothing_changes_nothing(tmp_path):
    file = tmp_path / "plain.safetensors"
    save_file(PaperHead(backbone(head="paper").channels).state_dict(), file)
    assert not Sofs(head="paper", weights=file, backbone=LITE).model.head.scale_features
