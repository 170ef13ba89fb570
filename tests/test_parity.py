"""Exports say how far they are from PyTorch, and leave nothing where they are too far."""

import json
import re
from types import SimpleNamespace

import pytest
import torch
from anomalib.deploy.export import CompressionType
from PIL import Image

from anomalib_sofs.model import Sofs, SupportSet
from anomalib_sofs.model.exporting import mixin, parity
from anomalib_sofs.model.exporting.parity import ParityError, compare, summary
from anomalib_sofs.model.false_alarms import GoodImages
from anomalib_sofs.openvino_core import core

from .helpers_model import marked, surface


def answer(image: torch.Tensor, *, off: float = 0.0) -> SimpleNamespace:
    maps = image.mean(1) + off
    return SimpleNamespace(anomaly_map=maps, pred_score=maps.amax((1, 2)))


def exported(off: float):
    return lambda image: vars(answer(image, off=off))


def test_support_images_and_random_ones_of_several_sizes_and_batches_are_compared(tmp_path):
    Image.new("RGB", (700, 90), "grey").save(tmp_path / "part.png")
    supports = [str(tmp_path / "part.png"), str(tmp_path / "gone.png"), "support image 2"]
    report = compare(answer, exported(5e-5), "FP32", supports)
    assert [(row["image"], row["batch"], row["height"], row["width"]) for row in report["images"]] == [
        ("part.png", 1, 90, 640), ("random", 1, 70, 113), ("random", 3, 96, 130), ("random", 1, 600, 545),
    ]  # fmt: skip
    assert report["unread"] == ["gone.png", "support image 2"]
    said = summary(report, tmp_path / "report.json")
    assert " Not compared, for they are no files, or gone: gone.png, support image 2. Report: " in said
    assert report["map"] == pytest.approx(5e-5, rel=0.01)
    assert report["allowed"] == 1e-4


@pytest.mark.parametrize(("precision", "off"), [("FP32", 2e-4), ("FP16", 0.03), ("FP32", float("nan"))])
def test_a_larger_difference_than_the_precision_allows_is_an_error(precision, off):
    with pytest.raises(ParityError, match="The exported model is not the model: on random"):
        compare(answer, exported(off), precision, [])


def test_a_fixed_size_is_compared_at_that_size():
    report = compare(answer, exported(0.0), "FP32", [], (64, 80))
    assert [(row["batch"], row["height"], row["width"]) for row in report["images"]] == [(1, 64, 80), (3, 64, 80)]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Sofs:
    image, mask = marked(96, 96, (40, 40, 48, 50))
    path = tmp_path_factory.mktemp("support") / "part.png"
    Image.fromarray((image * 255).byte().permute(1, 2, 0).numpy()).save(path)
    sofs = Sofs()
    good = GoodImages([surface(96, 96, seed=seed) for seed in range(4)], 0.25)  # contrast: a second loop over windows
    sofs.set_support(SupportSet([image], [mask], paths=[str(path)]), good)
    assert sofs.model.support.contrast is not None
    return sofs


def test_an_export_to_openvino_has_its_report_beside_it_and_its_precision_inside(model, tmp_path, capsys):
    file = model.to_openvino(tmp_path)
    assert sorted(path.name for path in file.parent.iterdir()) == ["model.bin", "model.xml", "model_parity.json"]
    report = json.loads((file.parent / "model_parity.json").read_text())
    assert report["map"] < 1e-4
    assert report["images"][0]["image"] == "part.png"
    said = capsys.readouterr().out
    assert re.search(r"Exported in \d+ s, compared in \d+ s\.", said)
    assert "Compared with PyTorch (FP32): maps differ by at most" in said
    info = core().read_model(file)
    assert info.get_rt_info(["model_info", "inference_precision"]).astype(str) == "f32"
    assert info.get_rt_info(["model_info", "labels"]).astype(str) == "Normal Anomaly"
    assert list(tmp_path.iterdir()) == [tmp_path / "weights"]
    readers = info.inputs[0].get_node().output(0).get_target_inputs()
    kinds = {reader.get_node().get_type_name() for reader in readers}
    assert "Loop" in kinds
    assert not kinds & {"Add", "Subtract", "Multiply", "Divide"}  # windows are normalised: no copy of a large image
    assert model.pre_processor is not None


def test_an_export_that_is_too_far_off_leaves_nothing_and_what_was_there_stays(model, tmp_path, monkeypatch):
    before = model.to_torch(tmp_path).read_bytes()
    monkeypatch.setattr(parity, "ALLOWED", {"FP32": -1.0})
    monkeypatch.setattr(mixin, "NORMAL_ALLOWED", {})
    with pytest.raises(ParityError, match="Nothing was written"):
        model.to_torch(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]
    assert (tmp_path / "weights/torch/model.pt").read_bytes() == before
    assert all(parameter.requires_grad for parameter in model.model.head.parameters())


@pytest.mark.parametrize("compression", [CompressionType.INT8, CompressionType.INT8_PTQ, CompressionType.INT8_ACQ])
def test_compression_to_8_bits_is_refused_for_it_would_change_nothing(model, tmp_path, compression):
    with pytest.raises(
        ValueError, match=f"{compression.value.upper()} would leave this .* --precision int8 --calibration"
    ):
        model.to_openvino(tmp_path, compression_type=compression)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_two_classes_in_a_batch_of_more_images(tmp_path):
    """OpenVINO took the classes for images where a sum was divided by a number of each class."""
    sofs = Sofs(window_size=128)
    examples = [marked(96, 96, (30, 30, 54, 54)), marked(80, 112, (40, 20, 60, 40), 2, 1.0)]
    sofs.set_support(SupportSet(*map(list, zip(*examples, strict=True)), labels=["dark", "bright"]))
    path = sofs.to_onnx(tmp_path)
    report = json.loads(path.with_name("model_parity.json").read_text())
    assert 3 in {row["batch"] for row in report["images"]}
    assert report["map"] < 1e-4
