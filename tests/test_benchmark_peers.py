"""Few-shot anomaly detection beside models whose weights come from a hub: their whole path, with random weights.

Only the loading of weights is replaced, and large networks by their smallest sibling: the same grid of patches, fewer
channels or blocks.
"""

import json
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import timm
import torch
from anomalib.data import ImageBatch
from PIL import Image

from anomalib_sofs.benchmark import fad, peers
from anomalib_sofs.benchmark.__main__ import main
from anomalib_sofs.benchmark.arguments import PEERS, parse
from anomalib_sofs.benchmark.few_normals import FewNormals
from anomalib_sofs.benchmark.peers import PeerUnavailableError
from anomalib_sofs.benchmark.timing import BackboneClock, probe_image
from anomalib_sofs.data.surfaces import render

SIBLINGS = {"vit_base_patch16_dinov3": "vit_small_patch16_dinov3"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Good images to learn from; a good and a defective one to test."""
    root = tmp_path_factory.mktemp("plates")
    good = [("train/good", None, seed) for seed in (0, 3, 4)]
    for where, defect, seed in (*good, ("test/good", None, 1), ("test/pit", "pit", 2)):
        image, mask = render("ground_steel", defect, style=0, seed=seed, size=(96, 80))
        file = root / "plate" / where / f"{seed}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    masks = root / "plate/ground_truth/pit"
    masks.mkdir(parents=True)
    Image.fromarray(mask * np.uint8(255)).save(masks / "2_mask.png")
    return root


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    """No network, a clock that looks once, and one epoch of training."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(
        BackboneClock, "ratio", lambda _, query: float(query(probe_image()[None, :, :128, :128]) is not None)
    )
    monkeypatch.setitem(peers.EPOCHS, "foundad", 1)


def rows(root, tmp_path, *options):
    file = tmp_path / "fad.json"
    assert main(["fad", "--root", str(root), "--shots", "1", "--json", str(file), *options]) == 0
    return json.loads(file.read_text())["rows"]


def timm_weights_are_random(monkeypatch):
    create = timm.create_model

    def without_weights(name, pretrained=False, **options):  # noqa: ARG001
        base = name.split(".", maxsplit=1)[0]
        return create(SIBLINGS.get(base, base), pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", without_weights)


def clip_weights_are_random(monkeypatch):
    open_clip = pytest.importorskip("open_clip", reason="WinCLIP needs the extra [peers]")
    create = open_clip.create_model_and_transforms

    def without_weights(name, pretrained=None, **options):  # noqa: ARG001
        config = open_clip.get_model_config(name)
        options["vision_cfg"] = config["vision_cfg"] | {"layers": 1}
        options["text_cfg"] = config["text_cfg"] | {"layers": 1, "width": 64, "heads": 1}
        return create(name, **options)

    monkeypatch.setattr(open_clip, "create_model_and_transforms", without_weights)


def is_complete(row):
    assert "error" not in row, row["error"]
    assert row["queries"] == 2
    assert all(0 <= row[name] <= 1 for name in ("image_auroc", "pixel_auroc", "aupro", "good_called_defective"))
    assert row["f1"] == row["f1_best"] >= 2 / 3  # all called defective
    assert row["f1_threshold"] == "test images"
    assert row["seconds_per_image"] > 0


@pytest.mark.parametrize("peer", ["anomalydino", "rad", "foundad", "winclip"])
def test_a_peer_with_a_backbone_of_its_own_gets_a_row(root, tmp_path, monkeypatch, peer):
    replace = clip_weights_are_random if peer == "winclip" else timm_weights_are_random
    replace(monkeypatch)
    row = rows(root, tmp_path, "--peers", peer)[-1]
    is_complete(row)
    assert (row["method"], row["backbone"]) == (peer, peers.OWN_BACKBONES[peer])


def test_mh_patchcore_reads_our_backbone_and_needs_no_hub(root, tmp_path):
    row = rows(root, tmp_path, "--peers", "mhpatchcore")[-1]
    is_complete(row)
    assert (row["image_auroc"], row["backbone"]) == (1, "tf_efficientnet_lite0")


def test_our_row_on_a_vision_transformer(root, tmp_path, capsys):
    backbone = "vit_small_patch14_dinov2"
    found = rows(root, tmp_path, "--backbone", backbone, "--random-weights", "--peers", "none")
    assert [row["method"] for row in found] == ["sofs", "paper"]
    for row in found:
        assert "error" not in row
        assert (row["backbone"], row["f1_threshold"]) == (backbone, "support")
        numbers = [row[name] for name in ("image_auroc", "pixel_auroc", "aupro", "f1", "good_called_defective")]
        assert all(0 <= number <= 1 for number in numbers)
    printed = capsys.readouterr().out
    assert f"--backbone {backbone} --random-weights`" in printed
    assert f"SOFS, SOFS as published: {backbone}." in printed


def test_without_a_hub_our_row_on_a_vision_transformer_says_so(root, tmp_path):
    for row in rows(root, tmp_path, "--backbone", "vit_small_patch14_dinov2", "--peers", "none"):
        assert row["error"].startswith("weights cannot be had (")
        assert row["image_auroc"] is row["good_called_defective"] is None


def test_parts_of_an_image_at_its_border_are_seen_by_every_peer(monkeypatch):
    timm_weights_are_random(monkeypatch)
    for name in ("mhpatchcore", "rad"):
        preprocess = peers.build(name, peers.Wanted(1, "plate")).pre_processor
        image = torch.zeros(1, 3, 600, 600)
        image[..., :9, :9] = 1
        seen = preprocess(image)
        assert seen[0, 0, 0, 0] > seen[0, 0, -1, -1]


def test_draws_are_rows_of_their_own_support_and_a_spread_in_the_table(root, tmp_path, monkeypatch, capsys):
    supports = []

    def learned(table, support, *rest):
        supports.append([Path(file).name for file in support])
        return FewNormals(table, support, *rest)

    monkeypatch.setattr(fad, "FewNormals", learned)
    found = rows(root, tmp_path, "--draws", "3", "--peers", "none")
    assert [row["draw"] for row in found] == [0, 1, 2]
    assert supports == [["0.png"], ["0.png"], ["4.png"]]  # the first, then drawn: of three images, some twice
    values = [row["aupro"] for row in found]
    assert values[0] == values[1] != values[2]
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("| plate | SOFS"))
    least, most = (f"{value:.3f}" for value in (min(values), max(values)))
    spread = "" if least == most else f" ({least} to {most})"
    assert f" {sum(values) / 3:.3f}{spread} " in line


def test_missing_weights_are_asked_for_once(root, tmp_path, monkeypatch):
    asked = []

    def missing(name, wanted):
        asked.append((name, wanted.shots))
        message = "no hub"
        raise PeerUnavailableError(message)

    monkeypatch.setattr(fad, "build", missing)
    found = rows(root, tmp_path, "--draws", "3", "--peers", "rad,padim")
    assert asked == [("sofs", 1), ("rad", 1)]
    assert [(row["method"], row["draw"], row["error"]) for row in found] == [
        *(("sofs", draw, "no hub") for draw in range(3)),
        *(("rad", draw, "no hub") for draw in range(3)),
        *(("padim", draw, "needs 2 images: it estimates a covariance at each position") for draw in range(3)),
    ]


def test_what_trains_for_hours_runs_only_where_it_is_named():
    arguments = parse(["fad", "--root", ".", "--json", "x.json"])
    assert [name for name in PEERS if name not in arguments.peers] == list(peers.EPOCHS) == ["foundad"]


def test_winclip_sees_its_reference_images_as_it_sees_queries(monkeypatch):
    clip_weights_are_random(monkeypatch)
    winclip = peers.build("winclip", peers.Wanted(2, "plate"))
    images = torch.rand(2, 3, 240, 240)
    batches = [ImageBatch(image=image[None]) for image in images]
    assert torch.equal(winclip.collect_reference_images(batches), winclip.pre_processor(images))


def test_without_its_package_winclip_says_which_extra_brings_it(monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda _: None)
    with pytest.raises(PeerUnavailableError, match=r"open_clip_torch, the extra \[peers\]"):
        peers.build("winclip", peers.Wanted(1, "plate"))


def test_an_unknown_backbone_is_one_line_and_code_2(root, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fad", "--root", str(root), "--backbone", "vit", "--json", str(tmp_path / "x.json")])
    assert stop.value.code == 2
    assert "Backbone 'vit' is not a timm model" in capsys.readouterr().err
