"""What a query costs, as the benchmark's users measure it."""

import csv
import json
from pathlib import Path

import pytest
import torch

from anomalib_sofs.benchmark import peak
from anomalib_sofs.benchmark.__main__ import main
from anomalib_sofs.benchmark.subjects import SIDE, Subject, support_set
from anomalib_sofs.model.support_windows import place_windows
from anomalib_sofs.openvino_core import core

KEYS = {
    "engine", "precision", "head", "backbone", "size", "shots", "threads", "query_ms", "backbone_ms", "ratio", "encode_ms",
    "peak_mb",
}  # fmt: skip


def speed(file: Path, *options: object) -> list[dict]:
    assert main(["speed", "--json", str(file), "--threads", "1", "--rounds", "2", *map(str, options)]) == 0
    content = json.loads(file.read_text())
    assert content["command"].startswith("python -m anomalib_sofs.benchmark speed --json FILE ")
    for row in content["rows"]:
        assert set(row) >= KEYS
        assert row["precision"] == "fp32" or row["engine"] == "openvino"
        assert row["ratio"] == pytest.approx(row["query_ms"] / row["backbone_ms"])
        assert min(row["query_ms"], row["backbone_ms"], row["encode_ms"], row["peak_mb"]) > 0
    return content["rows"]


@pytest.mark.slow
def test_every_engine_that_works_is_a_row_and_anomalibs_model_beside_it(tmp_path, capsys):
    file = tmp_path / "new/speed.json"
    rows = speed(file, "--sizes", "96", "--heads", "relation,padim")
    able = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    lower = [("relation", "openvino", name.lower(), 1) for name in ("BF16", "INT8") if name in able]
    assert [(row["head"], row["engine"], row["precision"], row["shots"]) for row in rows] == [
        ("relation", "torch", "fp32", 1), ("relation", "openvino", "fp32", 1), *lower, ("padim", "torch", "fp32", 50),
    ]  # fmt: skip
    assert rows[0]["ratio"] > 1
    assert rows[0]["encode_peak_mb"] > 1
    assert rows[1]["encode_peak_mb"] is None  # the support is part of the graph
    assert len(list(csv.DictReader(file.with_suffix(".csv").open()))) == 3 + len(lower)
    printed = capsys.readouterr().out
    assert "| torch | fp32 | relation | 96 | 1 | 1 | 1 | 1 | " in printed
    assert "Backbone tf_efficientnet_lite0." in printed


def test_a_support_set_of_several_classes_on_another_backbone(tmp_path, monkeypatch):
    monkeypatch.setattr(peak, "measure", peak._measure)  # here: a process of its own is the business of the test above
    options = ("--backbone", "resnet18", "--random-weights", "--heads", "paper", "--engines", "torch")
    (row,) = speed(tmp_path / "x.json", *options, "--sizes", "64", "--classes", "2", "--coreset", 0.1)
    assert (row["backbone"], row["shots"], row["classes"], row["coreset"]) == ("resnet18", 1, 2, 0.1)


def test_each_marked_place_is_a_window():
    subject = Subject("relation", "resnet18", random_weights=True, shots=2, classes=2, crops=3)
    support = support_set(subject)
    assert support.classes == ["class 0", "class 1"]
    assert len(support.images) == 4
    assert not any(torch.equal(support.images[0], image) for image in support.images[1:])
    for mask in support.masks:
        windows = place_windows(mask, SIDE, 4)
        assert len(windows) == 3
        assert float(mask.float().mean()) < 0.01  # nothing is resized


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--backbone", "nonsense"), "Backbone 'nonsense' is not a timm model"),
        (("--heads", "relation,unet"), "unknown head 'unet'; there are: relation, paper, patchcore, padim"),
        (("--engines", "tensorrt"), "unknown engine 'tensorrt'"),
        (("--precisions", "int4"), "unknown precision 'int4'"),
        (("--sizes", "0"), "whole numbers of at least 32"),
        (("--coreset", "-1"), "expected a share below 1 or a number of cells"),
    ],
)
def test_a_wrong_request_is_one_line_and_code_2(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as stop:
        main(["speed", "--json", str(tmp_path / "x.json"), *options])
    assert stop.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert message in lines[0]
