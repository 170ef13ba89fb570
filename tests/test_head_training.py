"""The trainer of the packaged head: what it says of a network, and the file that it writes."""

import sys
from argparse import Namespace

import pytest
import torch
from safetensors import safe_open

from anomalib_sofs import Sofs
from anomalib_sofs.model.relation.fine_maps import FINE_RELATIONS
from anomalib_sofs.model.relation.maps import RELATIONS
from anomalib_sofs.model.relation.network import RelationNet

from .conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "tools"))
import larger_networks
import train_head
from larger_networks import LargerNetworks

MAPS = len(RELATIONS) + 1  # the last one is the share of defect of the support


def item(target, seed=0) -> train_head.Item:
    """Maps of an 8 x 8 grid; of the first fine one, the defect is where it is above 1."""
    generator = torch.Generator().manual_seed(seed)
    maps = 0.1 * torch.randn(MAPS, 8, 8, generator=generator)
    fine = 0.1 * torch.randn(len(FINE_RELATIONS), 16, 16, generator=generator)
    fine[0] += 3 * target
    return train_head.Item(*(part.half() for part in (maps, fine, target)))


def square(side) -> torch.Tensor:
    target = torch.zeros(16, 16)
    target[4 : 4 + side, 4 : 4 + side] = 1
    return target


def test_a_network_learns_what_tells_the_defect():
    items = [item(square(side), seed) for seed, side in enumerate((4, 6, 8, 0))]
    before = train_head.fit(items, steps=1, seed=1)
    after = train_head.fit(items, steps=60, seed=1)
    iou = [float(train_head.check(net, items).removeprefix("mIoU ").split(" %")[0]) for net in (before, after)]
    assert iou[1] > iou[0] + 40


def test_other_episodes_tell_the_iou_of_defects_and_how_many_good_parts_get_a_region():
    def left_half(maps, fine, odds):
        del maps, odds
        logits = torch.full((1, 1, *fine.shape[-2:]), -1.0)
        logits[..., :8] = 1
        return logits, torch.zeros(1)

    marked = torch.zeros(16, 16)
    marked[:, :4] = 1
    items = [item(marked), item(torch.ones(16, 16)), item(torch.zeros(16, 16))]
    assert train_head.check(left_half, items) == "mIoU 50.0 %, good with a region 100 %"


def test_it_comes_near_to_what_the_larger_networks_say():
    items, larger = [item(square(side), seed) for seed, side in enumerate((4, 6, 8, 0))], LargerNetworks()
    torch.manual_seed(0)
    net, differences = RelationNet().eval(), []
    for steps in (0, 60):
        net = train_head.fit(items, steps, seed=1, net=net, imitated=larger) if steps else net
        with torch.no_grad():
            seen = train_head.inputs(*(part[None].float() for part in items[0][:2]))
            differences.append(float((net(*seen)[0] - larger(*seen)[0]).abs().mean()))
    assert differences[1] < 0.5 * differences[0]


def test_nothing_is_lost_where_logits_are_those_that_are_imitated():
    torch.manual_seed(0)
    logits, vote = 100 * torch.randn(2, 1, 8, 8), torch.randn(2)
    logits[0] = logits[0].sign() * 100  # nothing is in doubt
    assert float(larger_networks.imitation_loss(logits[:1], vote[:1], logits[:1], vote[:1])) == pytest.approx(
        0, abs=1e-6
    )
    assert float(larger_networks.imitation_loss(-logits[:1], vote[:1], logits[:1], vote[:1])) > 100


def test_the_file_says_how_its_network_was_trained(tmp_path):
    net = RelationNet().eval()
    said = {"backbone": "tf_efficientnet_lite0", "groups": 20, "large": 0.3, "plain": 0.15, "steps": 5, "seed": 2}
    train_head.save(net, Namespace(**said, imitation=[3, 4], out=tmp_path / "one.safetensors"))
    with safe_open(tmp_path / "one.safetensors", "pt") as file:
        assert file.metadata()["trained_by"] == (
            "tools/train_head.py --backbone tf_efficientnet_lite0 --seed 2 --groups 20 --large 0.3 --plain 0.15 --steps 5 "
            "--imitation 3 4"
        )
    (loaded,) = Sofs(weights=tmp_path / "one.safetensors").model.head.nets
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in loaded.state_dict().items())
