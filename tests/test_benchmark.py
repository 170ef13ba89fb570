"""The benchmark command, as its users run it."""

import csv
import json
import os
import random
import re
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

from anomalib_sofs.benchmark import fss as module
from anomalib_sofs.benchmark.__main__ import main
from anomalib_sofs.benchmark.arguments import BenchmarkError
from anomalib_sofs.benchmark.categories import detection_tables, segmentation_tables
from anomalib_sofs.benchmark.few_normals import choose_support
from anomalib_sofs.benchmark.fss import chosen_methods, evaluate
from anomalib_sofs.benchmark.machine import without_paths
from anomalib_sofs.benchmark.methods import build_methods
from anomalib_sofs.benchmark.scores import auroc, best_decisions, f1, good_called_defective, pixel_scores
from anomalib_sofs.benchmark.tally import SIZES, Tally
from anomalib_sofs.data.datasets import QueryEpisodes
from anomalib_sofs.data.items import EpisodeItem
from anomalib_sofs.data.surfaces import render
from anomalib_sofs.metrics import EpisodeIoU
from anomalib_sofs.model.weights import packaged_weights

from .helpers_model import LITE
from .helpers_scripts import run

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
        "fss", "--root", root, "--categories", "plate,strip", "--seeds", "0,1", "--limit", 2, "--weights", "relation",
        "--json", file
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, file


@pytest.fixture(scope="module")
def fad(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    file = tmp_path_factory.mktemp("fad") / "fad.json"
    done = run(
        "anomalib-sofs", "benchmark", "fad", "--root", root, "--categories", "plate", "--shots", "1,2", "--draws", 2,
        "--peers", "patchcore,rad,winclip", "--limit", 2, "--json", file, cwd=file.parent,
    )  # fmt: skip
    return done.stdout, file


METHODS = ["sofs", "discriminant", "prior"]
FSS_KEYS = {
    "category",
    "seed",
    "shots",
    "normal_shots",
    "method",
    "iou",
    "iou_by_size",
    "miou",
    "fb_iou",
    "false_positives",
    "false_area",
}
FAD_KEYS = {"category", "method", "shots", "draw", "image_auroc", "pixel_auroc", "aupro", "f1", "good_called_defective"}


def test_fss_has_a_row_for_every_category_seed_and_method(fss):
    rows = json.loads(fss[1].read_text())["rows"]
    assert [(r["category"], r["seed"], r["method"]) for r in rows] == [
        (c, s, m) for c in ("plate", "strip") for s in (0, 1) for m in METHODS
    ]
    for row in rows:
        assert set(row) >= FSS_KEYS
        assert (row["shots"], row["normal_shots"], row["queries"]) == (1, 0, 4)
        assert set(row["iou"]) == set(CLASSES)
        assert all(0 <= value <= 1 for value in row["iou"].values())
        assert row["miou"] == pytest.approx(np.mean(list(row["iou"].values())))
        assert list(row["iou_by_size"]) == list(row["queries_by_size"]) == list(SIZES)
        assert sum(row["queries_by_size"].values()) == 4
        assert all((row["iou_by_size"][size] is None) == (n == 0) for size, n in row["queries_by_size"].items())
        assert row["seconds_per_image"] > 0
        assert row["backbone_ratio"] > 0


def test_by_default_both_packaged_heads_are_compared():
    methods = chosen_methods(["default"], "cpu")
    assert [method.name for method in methods] == ["sofs", "discriminant", "paper", "prior"]
    assert [type(method.model.head).__name__ for method in methods[::2]] == ["RelationHead", "PaperHead"]
    assert all(method.encode.model.head_trained for method in methods)
    assert [method.name for method in build_methods("paper")] == ["paper", "prior"]
    file = str(packaged_weights("paper", LITE))
    with pytest.raises(BenchmarkError, match=rf"{file} makes a second row 'paper'\. Run them apart\."):
        chosen_methods(["default", file], "cpu")


def test_other_backbones_get_the_rows_that_need_no_training_for_them(root, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "measure_ratios", lambda methods, _: {method.name: 1.0 for method in methods})
    backbone = "mobilenetv3_small_050"
    wanted = ["fss", "--root", root, "--categories", "strip", "--limit", 1, "--seeds", 0, "--random-weights"]
    assert main([*map(str, wanted), "--backbone", backbone, "--json", str(tmp_path / "fss.json")]) == 0
    rows = json.loads((tmp_path / "fss.json").read_text())["rows"]
    assert [row["method"] for row in rows] == ["sofs", "discriminant", "prior"]  # the paper's head would be untrained
    assert all(row["backbone"] == backbone and 0 <= row["miou"] <= 1 for row in rows)
    with pytest.raises(BenchmarkError, match="paper' has no weights for backbone 'mobilenetv3_small_050'"):
        build_methods("paper", backbone=backbone, random_weights=True)


def test_fss_counts_false_positives_where_there_are_normal_images(fss):
    for row in json.loads(fss[1].read_text())["rows"]:
        if row["category"] == "strip":
            assert row["false_positives"] is row["false_area"] is None
            assert row["normal_queries"] == 0
        else:
            assert row["normal_queries"] == 3
            assert row["false_positives"] in {0, 1 / 3, 2 / 3, 1}
            assert 0 <= row["false_area"] <= row["false_positives"]
            assert set(row["false_positives_by_support_class"]) == set(CLASSES)


def test_results_say_where_they_come_from_without_a_path_of_the_machine(fss, fad, root):
    for printed, file in (fss, fad):
        content = json.loads(file.read_text())
        assert content["command"].startswith(
            f"python -m anomalib_sofs.benchmark {content['task']} --root ROOT --json FILE --categories "
        )
        assert "cores" in content["machine"]
        assert {"python", "anomalib", "torch", "anomalib-sofs", "scikit-learn"} <= set(content["versions"])
        for text in (file.read_text(), file.with_suffix(".csv").read_text(), printed):
            assert not re.search(r"(?<![\w.:/])/[\w.-]+/", text)
            assert str(root) not in text


def test_paths_in_messages_shrink_to_names():
    text = "[Errno 2] '/home/me/x y/a.png': see https://hub.co/models/x, C:\\data\\b.png (and/or 1/2), /tmp/c"
    assert without_paths("FileNotFoundError: /home/me/models/a.bin is missing") == "FileNotFoundError: a.bin is missing"
    assert "https://hub.co/models/x, b.png (and/or 1/2), c" in without_paths(text)


def test_fss_table_gives_mean_and_spread_over_seeds(fss):
    markdown, file = fss
    rows = json.loads(file.read_text())["rows"]
    values = [100 * r["miou"] for r in rows if (r["category"], r["method"]) == ("plate", "sofs")]
    line = next(line for line in markdown.splitlines() if line.startswith("| plate | SOFS | 1 |"))
    assert f"| {np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f}) |" in line
    assert "x backbone" in markdown
    sized = markdown.split("IoU in % by the share of the image that is defect:")[1].split("IoU of each class")[0]
    row = rows[0]["iou_by_size"]
    head = "| category | method | shots | normal shots | 0-0.1 % | 0.1-0.3 % | 0.3-1 % | 1-100 % |"
    assert sized.splitlines()[2] == head
    assert [line.split(" | ")[:2] for line in sized.splitlines()[4:-1]] == [
        [f"| {name}", title]
        for name in ("plate", "strip")
        for title in ("SOFS", "discriminant alone", "target semantic prior")
    ]
    assert [(cell == "-") for cell in sized.splitlines()[4].strip("| ").split(" | ")[4:]] == [
        value is None for value in row.values()
    ]


def test_fss_writes_csv_plot_and_the_worst_queries(fss):
    file = fss[1]
    lines = list(csv.DictReader(file.with_suffix(".csv").open()))
    rows = json.loads(file.read_text())["rows"]
    assert len(lines) == 2 * 2 * len(METHODS)
    assert float(lines[0]["miou"]) == pytest.approx(rows[0]["miou"])
    assert float(lines[0]["iou_pit"]) == pytest.approx(rows[0]["iou"]["pit"])
    assert Image.open(file.with_suffix(".png")).format == "PNG"
    for name in ("plate", "strip"):
        for defect in CLASSES:
            pictures = sorted(path.name for path in (file.parent / "fss-worst" / name / defect).iterdir())
            assert [picture[:6] for picture in pictures] == ["01-iou", "02-iou"]
            assert pictures[0][6:10] <= pictures[1][6:10]  # the worst first
    assert not [path for path in file.parent.iterdir() if path.name.startswith(".")]


def test_fad_compares_with_peers_on_the_same_images(fad):
    rows = json.loads(fad[1].read_text())["rows"]
    assert [(r["method"], r["shots"], r["draw"]) for r in rows] == [
        (m, k, d) for m in ("sofs", "patchcore", "rad", "winclip") for k in (1, 2) for d in (0, 1)
    ]
    for row in rows[:8]:
        assert set(row) >= FAD_KEYS
        assert "error" not in row
        assert all(0 <= row[name] <= 1 for name in ("image_auroc", "pixel_auroc", "aupro", "f1"))
        assert row["f1"] <= row["f1_best"]
        assert row["f1_threshold"] == ("support" if row["method"] == "sofs" else "test images")
        assert row["queries"] == 6  # two of each class and of the good ones
        assert row["good_called_defective"] in {0, 0.5, 1}
        assert row["backbone"] == LITE
        assert row["seconds_per_image"] > 0
        assert row["backbone_ratio"] > 0
    assert rows[4]["f1"] == rows[4]["f1_best"]  # anomalib's models learn their threshold from the test images


def test_fad_table_says_what_was_called_defective_and_which_backbones_were_read(fad):
    markdown, file = fad
    rows = json.loads(file.read_text())["rows"]
    head, line = (
        next(x for x in markdown.splitlines() if x.startswith(y)) for y in ("| category", "| plate | SOFS | 1")
    )
    cells = dict(zip(head.split(" | "), line.split(" | "), strict=True))
    assert cells["good called defective %"] == f"{100 * rows[0]['good_called_defective']:.1f}"
    assert f"SOFS, PatchCore: {LITE}; RAD: vit_base_patch16_dinov3; WinCLIP: ViT-B-16-plus-240." in markdown


def test_another_draw_is_another_support(root):
    table = detection_tables(root, ["plate"], 2)["plate"]
    names = ["000.png", "001.png", "002.png"]
    first, *drawn = ([Path(path).name for path in choose_support(table, "plate", 2, draw)] for draw in range(4))
    assert first == names[:2]
    assert drawn == [random.Random(f"{draw}/plate").sample(names, 2) for draw in (1, 2, 3)]  # noqa: S311
    assert all(Path(path).parent.parent.name == "train" for path in choose_support(table, "plate", 3, 1))


@pytest.mark.parametrize(("method", "title"), [("rad", "RAD"), ("winclip", "WinCLIP")])
def test_a_peer_without_weights_is_a_row_that_says_so(fad, method, title):
    markdown, file = fad
    rows = [r for r in json.loads(file.read_text())["rows"] if r["method"] == method]
    if all("error" not in row for row in rows):
        pytest.skip(f"{title}'s weights are there")
    for row in rows:
        assert "weights cannot be had" in row["error"]
        assert row["image_auroc"] is row["pixel_auroc"] is row["aupro"] is row["f1"] is None
        assert row["good_called_defective"] is None
    assert f"| {title} | 1 | weights cannot be had (" in markdown


def test_normal_supports_are_rows_of_their_own_and_a_category_without_any_says_so(root, tmp_path, capsys):
    file = tmp_path / "fss.json"
    options = ("--categories", "strip,plate", "--limit", 1, "--seeds", 0, "--normal_shots", "0,2", "--json", file)
    options += ("--good", 16, "--false-alarms", 0.3, "--weights", packaged_weights("relation", LITE))
    assert main([str(part) for part in ("fss", "--root", root, *options)]) == 0
    rows = json.loads(file.read_text())["rows"]
    assert [(row["category"], row["normal_shots"], row["method"]) for row in rows] == [
        *(("strip", 0, name) for name in METHODS), ("strip", 0, "sofs+good"), ("strip", 2, "sofs"),
        *(("plate", 0, name) for name in METHODS), ("plate", 0, "sofs+good"),
        ("plate", 2, "sofs"), ("plate", 2, "discriminant"), ("plate", 2, "sofs+good"),
    ]  # fmt: skip
    assert rows[3]["error"] == "no good training images"
    assert rows[4]["error"] == "0 normal training images"
    assert rows[4]["miou"] is None
    assert [row["good"] for row in rows if "good" in row] == [3, 1]  # of three, two are supports the second time
    plain, strict = rows[5], rows[8]
    assert strict["false_positives"] <= plain["false_positives"]
    assert strict["backbone_ratio"] == plain["backbone_ratio"]
    assert "| strip | SOFS | 1 | 2 | 0 normal training images |" in capsys.readouterr().out
    for row in rows[5:]:
        assert 0 <= row["false_area"] <= row["false_positives"] <= 1


def test_ignored_pixels_count_for_nothing():
    truth = torch.zeros(10, 10, dtype=torch.bool)
    truth[0, :4] = True
    found = truth.clone()
    found[5:] = True  # 50 pixels too many
    tally = Tally(EpisodeIoU(["part/pit"]), seconds=[1.0])
    item = EpisodeItem(
        image=torch.zeros(3, 10, 10), gt_mask=truth, category="part", defect_class="pit", counted=torch.tensor(True)
    )
    tally.add(item, found)
    assert tally.result()["iou"]["pit"] == pytest.approx(4 / 54)
    item.ignore_mask = torch.zeros(10, 10, dtype=torch.bool)
    item.ignore_mask[5:] = True
    tally = Tally(EpisodeIoU(["part/pit"]), seconds=[1.0])
    tally.add(item, found)
    assert tally.result()["iou"]["pit"] == 1


def test_iou_by_size_pools_the_queries_whose_defects_cover_a_like_share_of_their_image():
    tally = Tally(EpisodeIoU(["part/pit", "part/dent"]), seconds=[1.0])

    def query(marked: int, hit: int, wrong: int, defect_class: str = "pit", *, counted: bool = True) -> None:
        truth = torch.zeros(10_000, dtype=torch.bool)
        truth[:marked] = True
        found = torch.zeros_like(truth)
        found[:hit] = found[10_000 - wrong :] = True
        item = EpisodeItem(image=torch.zeros(3, 100, 100), gt_mask=truth.view(100, 100), category="part")
        item.defect_class, item.counted = defect_class, torch.tensor(counted)
        tally.add(item, found.view(100, 100))

    query(9, 3, 1)  # below 0.1 %
    query(4, 4, 4)
    query(10, 5, 10)  # 0.1 % is the next size
    query(100, 50, 0, "dent")  # 1 %
    query(4000, 2000, 0)
    query(0, 0, 5000, counted=False)  # a good image
    result = tally.result()
    assert result["queries_by_size"] == {"0-0.1": 2, "0.1-0.3": 1, "0.3-1": 0, "1-100": 2}
    assert result["iou_by_size"] == pytest.approx(
        {"0-0.1": 7 / 18, "0.1-0.3": 5 / 20, "0.3-1": None, "1-100": 2050 / 4100}
    )
    assert result["iou"] == pytest.approx({"pit": 2012 / 4038, "dent": 1 / 2})


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
        "normals": (command("fad", categories="strip"), "has 0 normal images"),
        "seeds": (command("fss", seeds="0,x"), "whole numbers"),
        "threshold": (command("fss", threshold="50"), "between 0 and 1, got '50'"),
        "good": (command("fss", good="0"), "whole number of at least 1, got '0'"),
    }


@pytest.mark.parametrize(
    "case", ["category", "root", "peer", "json", "weights", "normals", "seeds", "threshold", "good"]
)
def test_a_wrong_request_is_one_line_and_code_2(root, tmp_path, case, capsys):
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
    found = pixel_scores(list(maps.numpy()), list(masks.numpy().astype(np.uint8)))
    batch = ImageBatch(image=torch.zeros(4, 3, 24, 32), anomaly_map=maps, gt_mask=masks)
    fields = ["anomaly_map", "gt_mask"]
    aupro, pixel_auroc = AUPRO(fields=fields), AUROC(fields=fields)
    for metric in (aupro, pixel_auroc):
        metric.update(batch)
    expected = {"aupro": float(aupro.compute()), "pixel_auroc": float(pixel_auroc.compute())}
    assert found == pytest.approx(expected, abs=1e-4)
    # rows that are ignored might as well not be there
    cropped = pixel_scores(list(maps[:, :20].numpy()), list(masks[:, :20].numpy().astype(np.uint8)))
    ignored = masks.numpy().astype(np.uint8)
    ignored[:, 20:] = 255
    assert pixel_scores(list(maps.numpy()), list(ignored)) == pytest.approx(cropped)


def test_large_scores_are_not_saturated():
    scores = np.array([20.0, 30.0, 40.0, 50.0])
    assert auroc(scores, np.array([False, False, True, True])) == 1
    assert auroc(scores, np.array([True, True, True, True])) is None
    assert auroc(np.zeros(4), np.array([False, True, False, True])) == 0.5


def test_f1_and_false_alarms_of_decisions_and_of_the_best_ones():
    scores, defect = np.array([20.0, 30.0, 40.0, 50.0]), np.array([False, True, False, True])
    assert f1(scores > 45, defect) == pytest.approx(2 / 3)
    assert good_called_defective(scores > 45, defect) == 0
    best = best_decisions(scores, defect)
    assert best.tolist() == [False, True, True, True]  # all but the lowest: two of three
    assert f1(best, defect) == pytest.approx(0.8)
    assert good_called_defective(best, defect) == 0.5
    everything = np.ones(4, dtype=bool)
    assert f1(scores > 0, everything) is best_decisions(scores, everything) is None
    assert good_called_defective(scores > 0, everything) is None
    assert good_called_defective(scores > 25, ~everything) == 0.75  # defects are not needed for it
