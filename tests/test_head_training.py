"""The trainer of the packaged head: what it says of a network, and the file that it writes."""

import json
import sys
from argparse import Namespace

import torch
from safetensors import safe_open

from anomalib_sofs import Sofs
from anomalib_sofs.model.relation.fine_maps import FINE_RELATIONS
from anomalib_sofs.model.relation.maps import RELATIONS
from anomalib_sofs.model.relation.network import RelationNet

from .conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "tools"))
import train_head

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


def test_networks_that_were_trained_apart_make_one_head(tmp_path):
    torch.manual_seed(0)
    first, second = RelationNet().eval(), RelationNet().eval()
    said = {"backbone": "tf_efficientnet_lite0", "groups": 20, "own_scale": 0.0, "steps": 5}
    one = Namespace(**said, out=tmp_path / "one.safetensors", beside=None, seed=1, large=0.0)
    two = Namespace(**said, out=tmp_path / "two.safetensors", beside=one.out, seed=2, large=0.3)
    train_head.save(first, one)
    train_head.save(second, two)
    with safe_open(two.out, "pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["built"]) == {"head_options": {"members": 2}}
    assert [how.split("--seed ")[1] for how in metadata["trained_by"].split("; ")] == [
        "1 --groups 20 --large 0.0 --own-scale 0.0 --steps 5",
        "2 --groups 20 --large 0.3 --own-scale 0.0 --steps 5",
    ]
    nets = Sofs(weights=two.out).model.head.nets  # as many as the file has
    for net, written in zip(nets, (first, second), strict=True):
        assert all(torch.equal(value, written.state_dict()[name]) for name, value in net.state_dict().items())
