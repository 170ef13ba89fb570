"""The benchmark command, as its users run it."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.metrics import AUPRO, AUROC
from PIL import Image
from rich.progress import Progress

from anomalib_sofs.benchmark.categories import segmentation_tables
from anomalib_sofs.benchmark.fss import evaluate
from anomalib_sofs.benchmark.methods import build_methods
from anomalib_sofs.benchmark.scores import auroc, pixel_scores
from anomalib_sofs.data.datasets import QueryEpisodes
from anomalib_sofs.data.surfaces import render

SURFACE, CLASSES, SIZE = "ground_steel", ("scratch", "pit"), (96, 80)


def save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def category(folder: Path, *, normals: int, suffix: str) -> None:
    for name in CLASSES:
        for i in range(3):
            size = (SIZE[0] + 8 * i, SIZE[1])  # every image has its own size
            image, mask = render(SURFACE, name, style=0, seed=i, size=size)
            save(image, folder / f"test/{name}/{i:03}{suffix}")
            save(mask * np.uint8(255), folder / f"ground_truth/{name}/{i:03}_mask.png")
    for i in range(normals):
        for split, seed in (("train", 100), ("test", 200)):
            image, _ = render(SURFACE, None, style=0, seed=seed + i, size=SIZE)
            save(image, folder / split / f"good/{i:03}{suffix}")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("surfaces")
    category(root / "plate", normals=3, suffix=".png")
    category(root / "strip", normals=0, suffix=".jpg")
    return root


def benchmark(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "anomalib_sofs.benchmark", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


@pytest.fixture(scope="module")
def fss(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    file = tmp_path_factory.mktemp("fss") / "new" / "fss.json"
    done = benchmark(
        "fss", "--root", root, "--categories", "plate,strip", "--seeds", "0,1", "--limit", 2, "--json", file
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, file


@pytest.fixture(scope="module")
def fad(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    file = tmp_path_factory.mktemp("fad") / "fad.json"
    done = benchmark(
        "fad", "--root", root, "--categories", "plate", "--shots", "1,2", "--peers", "patchcore,winclip", "--limit", 2,
        "--json", file,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, file


METHODS = ["SOFS", "SOFS, ablated", "target semantic prior"]


def test_fss_has_a_record_for_every_category_seed_and_method(fss):
    results = json.loads(fss[1].read_text())["results"]
    assert [(r["category"], r["seed"], r["method"]) for r in results] == [
        (c, s, m) for c in ("plate", "strip") for s in (0, 1) for m in METHODS
    ]
    for record in results:
        assert set(record["iou"]) == set(CLASSES)
        assert all(0 <= value <= 1 for value in record["iou"].values())
        assert record["miou"] == pytest.approx(np.mean(list(record["iou"].values())))
        assert record["queries"] == 4
        assert record["seconds_per_image"] > 0
        assert record["backbone_ratio"] > 0


def test_fss_counts_false_positives_where_there_are_normal_images(fss):
    for record in json.loads(fss[1].read_text())["results"]:
        alarms = record["false_positives"]
        if record["category"] == "strip":
            assert alarms is None
        else:
            assert alarms["images"] == 3
            assert 0 <= alarms["share"] <= 1
            assert set(alarms["by_support_class"]) == set(CLASSES)


def test_results_say_where_they_come_from(fss):
    content = json.loads(fss[1].read_text())
    assert content["command"].startswith("python -m anomalib_sofs.benchmark fss --root ")
    assert content["seeds"] == [0, 1]
    assert "cores" in content["machine"]
    assert {"python", "anomalib", "torch", "anomalib-sofs"} <= set(content["versions"])


def test_fss_table_gives_mean_and_spread_over_seeds(fss):
    markdown, file = fss
    content = json.loads(file.read_text())
    values = [r["miou"] for r in content["results"] if (r["category"], r["method"]) == ("plate", "SOFS")]
    row = next(r for r in content["summary"] if (r["category"], r["method"]) == ("plate", "SOFS"))
    assert row["miou"] == pytest.approx({"mean": np.mean(values), "least": min(values), "most": max(values)})
    line = next(line for line in markdown.splitlines() if line.startswith("| plate | SOFS | 1 |"))
    assert f"{100 * np.mean(values):.1f}" in line
    assert "x backbone" in markdown


def test_fss_writes_csv_plot_and_the_worst_queries(fss):
    file = fss[1]
    rows = list(csv.DictReader(file.with_suffix(".csv").open()))
    assert len(rows) == 2 * 2 * len(METHODS)
    assert float(rows[0]["miou"]) == pytest.approx(json.loads(file.read_text())["results"][0]["miou"])
    assert Image.open(file.with_suffix(".png")).format == "PNG"
    for name in ("plate", "strip"):
        for defect in CLASSES:
            pictures = sorted(path.name for path in (file.parent / "fss-worst" / name / defect).iterdir())
            assert [picture[:6] for picture in pictures] == ["01-iou", "02-iou"]
            assert pictures[0][6:10] <= pictures[1][6:10]  # the worst first
    assert not [path for path in file.parent.iterdir() if path.name.startswith(".")]


def test_fad_compares_with_peers_on_the_same_images(fad):
    results = json.loads(fad[1].read_text())["results"]
    assert [(r["method"], r["shot"]) for r in results] == [
        (m, k) for m in ("SOFS", "PatchCore", "WinCLIP") for k in (1, 2)
    ]
    for record in results[:4]:
        assert "error" not in record
        assert all(0 <= record[name] <= 1 for name in ("image_auroc", "pixel_auroc", "aupro"))
        assert record["seconds_per_image"] > 0
        assert record["backbone_ratio"] > 0


def test_a_peer_without_weights_is_a_row_that_says_so(fad):
    markdown, file = fad
    rows = [r for r in json.loads(file.read_text())["results"] if r["method"] == "WinCLIP"]
    if all("error" not in row for row in rows):
        pytest.skip("WinCLIP's weights are there")
    assert all("weights cannot be had" in row["error"] for row in rows)
    assert "| WinCLIP | 1 | weights cannot be had (" in markdown


def test_nothing_is_found_above_a_threshold_that_no_pixel_reaches(root):
    table = segmentation_tables(root, ["plate"], 1)["plate"]
    episodes = QueryEpisodes(table, shot=1, seed=0, limit=1)
    methods = build_methods("default")[:1]
    with torch.inference_mode(), Progress(disable=True) as progress:
        some, none = (
            evaluate(episodes, methods, progress, "", threshold=threshold)[methods[0].name].result()
            for threshold in (1e-6, 1 - 1e-7)
        )
    assert some["miou"] > none["miou"] == none["false_area"] == 0


def wrong_arguments(root: Path, tmp_path: Path) -> dict[str, tuple[list[object], str]]:
    (tmp_path / "file").write_text("")
    good = {"--root": root, "--categories": "plate", "--json": tmp_path / "x.json"}

    def command(task: str, **changed: object) -> list[object]:
        options = good | {f"--{name}": value for name, value in changed.items()}
        return [task, *(part for option in options.items() for part in option)]

    return {
        "category": (command("fss", categories="plate,nut"), "No category 'nut'"),
        "root": (command("fad", root=tmp_path / "nowhere"), "does not exist"),
        "peer": (command("fad", peers="patchcore,dino"), "unknown peer 'dino'; there are: patchcore, padim"),
        "json": (command("fss", json=tmp_path / "file" / "x.json"), "cannot be written"),
        "weights": (command("fss", weights=tmp_path / "no.safetensors"), "no.safetensors does not exist"),
        "normals": (command("fad", categories="strip"), "has 0 images"),
        "seeds": (command("fss", seeds="0,x"), "whole numbers"),
        "threshold": (command("fss", threshold="50"), "between 0 and 1, got '50'"),
    }


@pytest.mark.parametrize("case", ["category", "root", "peer", "json", "weights", "normals", "seeds", "threshold"])
def test_a_wrong_request_is_one_line_and_code_2(root, tmp_path, case, capsys):
    from anomalib_sofs.benchmark.__main__ import main

    arguments, message = wrong_arguments(root, tmp_path)[case]
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert len(lines) == 1
    assert message in lines[0]
    assert not (tmp_path / "x.json").exists()


def test_a_wrong_request_ends_the_process_with_code_2(root, tmp_path):
    done = benchmark("fss", "--root", root, "--categories", "nut", "--json", tmp_path / "x.json")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "There are: plate, strip" in done.stderr


def test_scores_agree_with_anomalib_where_its_sigmoid_does_not_matter():
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(4, 24, 32, dtype=torch.bool)
    masks[0, 2:9, 3:8] = masks[1, 10:12, 20:30] = masks[1, 0:3, 0:3] = True
    maps = (torch.rand(masks.shape, generator=generator) + 0.3 * masks) / 1.3
    found = pixel_scores(list(maps.numpy()), list(masks.numpy()))
    batch = ImageBatch(image=torch.zeros(4, 3, 24, 32), anomaly_map=maps, gt_mask=masks)
    fields = ["anomaly_map", "gt_mask"]
    aupro, pixel_auroc = AUPRO(fields=fields), AUROC(fields=fields)
    for metric in (aupro, pixel_auroc):
        metric.update(batch)
    expected = {"aupro": float(aupro.compute()), "pixel_auroc": float(pixel_auroc.compute())}
    assert found == pytest.approx(expected, abs=1e-4)


def test_large_scores_are_not_saturated():
    scores = np.array([20.0, 30.0, 40.0, 50.0])
    assert auroc(scores, np.array([False, False, True, True])) == 1
    assert auroc(scores, np.array([True, True, True, True])) is None
    assert auroc(np.zeros(4), np.array([False, True, False, True])) == 0.5
