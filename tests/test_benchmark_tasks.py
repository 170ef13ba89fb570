"""The benchmarks that draw their own tables, and the parts that they are made of."""

import json
import shutil

import numpy as np
import pytest
import torch
from torchmetrics.classification import BinaryAveragePrecision

from anomalib_sofs import Sofs, SupportSet
from anomalib_sofs.benchmark import coreset, image_score, memory
from anomalib_sofs.benchmark.__main__ import main
from anomalib_sofs.benchmark.background import with_windows
from anomalib_sofs.benchmark.categories import segmentation_tables
from anomalib_sofs.benchmark.scores import average_precision
from anomalib_sofs.data.protocol import choose_support
from anomalib_sofs.images import image_size
from anomalib_sofs.tensors import read_image, read_mask

from . import trees


def run(capsys, task, root, tmp_path, *more):
    """Run a benchmark in this process: its results and what it printed."""
    file = tmp_path / "out" / f"{task}.json"
    assert main([str(part) for part in (task, "--root", root, *more, "--json", file)]) == 0
    return json.loads(file.read_text())["results"], capsys.readouterr().out


# -- image score -----------------------------------------------------------------------------------------------------


def test_every_way_to_score_an_image_is_measured_for_every_class(products, tmp_path, capsys):
    records, printed = run(capsys, "image_score", products, tmp_path, "--categories", "wood_0", "--limit", 2)
    names = sorted(path.name for path in (products / "wood_0/ground_truth").iterdir())
    assert [(r["group"], r["category"], r["class"]) for r in records] == [("wood_0", "wood_0", name) for name in names]
    model = Sofs().eval()
    folder, name = products / "wood_0", names[0]
    scores = {}
    for query in [folder / f"test/{name}/{i:03}.png" for i in range(2)] + [
        folder / f"test/good/{i:03}.png" for i in range(2)
    ]:
        others = [path for path in sorted((folder / f"test/{name}").iterdir()) if path != query]
        (chosen,) = choose_support(others, 1, seed=0, category="wood_0", defect_class=name, query=query)
        mask = folder / f"ground_truth/{name}/{chosen.stem}_mask.png"
        model.set_support(SupportSet([read_image(chosen)], [read_mask(mask)]))
        with torch.inference_mode():
            scores[query] = float(model(read_image(query)[None]).pred_score)
    values = np.array(list(scores.values()))
    bad, good = values[:2], values[2:]
    wins = (bad[:, None] > good).mean() + 0.5 * (bad[:, None] == good).mean()
    assert records[0]["scores"]["maximum"] == pytest.approx(
        {"auroc": wins, "recall": (bad > 0.5).mean(), "false_alarms": (good > 0.5).mean()}
    )
    for score in image_score.SCORES:
        assert f"| {score} | " in printed
    assert f"| score | {' | '.join(names)} |" in printed


def test_scores_of_a_map_by_hand():
    probability = torch.full((10, 10), 0.1)
    probability[4, 4:6] = torch.tensor([0.9, 0.6])
    found = {name: float(score(probability)) for name, score in image_score.SCORES.items()}
    assert found["maximum"] == pytest.approx(0.9)
    odds = 9 * (98 * 9 + 1 / 9 + 2 / 3) / 100 * 1e-5 / 0.99999  # those of the peak, against the background's
    assert found["maximum, against the background"] == pytest.approx(odds / (1 + odds))
    assert found["maximum less median"] == pytest.approx(0.8)
    assert found["mean of the 10 highest pixels"] == pytest.approx((0.9 + 0.6 + 8 * 0.1) / 10)
    assert found["mean of the highest 1 %"] == pytest.approx(0.9)
    assert found["maximum, smoothed over 3 pixels"] == pytest.approx((0.9 + 0.6 + 7 * 0.1) / 9)
    assert found["share above 0.5"] == pytest.approx(0.02)
    assert found["mean"] == pytest.approx((98 * 0.1 + 1.5) / 100)
    assert found["log mean exp of 10 p"] == pytest.approx(np.log((98 * np.e + np.exp(9) + np.exp(6)) / 100) / 10)


# -- normal supports -------------------------------------------------------------------------------------------------


def test_normal_supports_are_rows_of_their_own_and_a_category_without_any_says_so(products, tmp_path, capsys):
    trees.mvtec(tmp_path / "root", "strip", {"dent": 3}, good=0)
    shutil.copytree(products / "wood_0", tmp_path / "root/wood_0")
    records, printed = run(
        capsys, "fss", tmp_path / "root", tmp_path, "--categories", "strip,wood_0", "--limit", 1, "--seeds", 0,
        "--normal_shots", "0,2",
    )  # fmt: skip
    assert [(r["category"], r["normal_shot"], r["method"]) for r in records] == [
        ("strip", 0, "SOFS"), ("strip", 0, "SOFS, ablated"), ("strip", 0, "target semantic prior"), ("strip", 2, "SOFS"),
        ("wood_0", 0, "SOFS"), ("wood_0", 0, "SOFS, ablated"), ("wood_0", 0, "target semantic prior"),
        ("wood_0", 2, "SOFS"), ("wood_0", 2, "SOFS, ablated"),
    ]  # fmt: skip
    assert records[3]["error"] == "0 normal images: --windows cuts stand-ins"
    assert "| strip | SOFS | 1 | 2 | 0 normal images: --windows cuts stand-ins |" in printed
    for record in records[4:]:
        assert 0 <= record["false_area"] <= record["false_positives"]["share"] <= 1
    assert all(record["false_area"] is None for record in records[:3])


def test_windows_of_the_background_stand_for_normal_images(tmp_path):
    trees.mvtec(tmp_path, "strip", {"dent": 60, "hole": 4}, good=0)
    (samples,) = segmentation_tables(tmp_path, ["strip"], 1).values()
    made = with_windows(samples, tmp_path / "windows", 16)
    counts = made.groupby(["label", "split"]).size().to_dict()
    # 24 of 60 and, at most half, 2 of 4 give a window each: the first four of a class for the support
    assert counts == {("dent", "test"): 36, ("hole", "test"): 2, ("good", "train"): 6, ("good", "test"): 20}
    normal = made[made.label == "good"].image_path.tolist()
    assert [path.rsplit("/", 1)[1] for path in normal[:3]] == [
        "000_dent_036.png",
        "000_hole_002.png",
        "001_dent_037.png",
    ]
    assert {image_size(path) for path in normal} == {(16, 16)}
    # the first place without defect: right of it (its box ends at column 16)
    expected = read_image(tmp_path / "strip/test/dent/036.png")[:, :16, 16:32]
    assert torch.equal(read_image(normal[0]), expected)
    kept = set(made.image_path) - set(normal)
    assert not any(path.endswith(("dent/036.png", "dent/059.png", "hole/003.png")) for path in kept)
    again = with_windows(made, tmp_path / "other", 16)
    assert again is made


# -- coreset and memory ----------------------------------------------------------------------------------------------


def test_coreset_is_compared_with_all_cells(products, tmp_path, capsys):
    records, printed = run(
        capsys, "coreset", products, tmp_path, "--categories", "wood_0", "--limit", 1, "--sizes", "0.01,50"
    )
    assert [record["coreset"] for record in records] == [None, 0.01, 50.0]
    every = records[0]["cells"]
    assert every == pytest.approx(64 * 64, abs=40)  # the windows of 512 pixels, less fully marked cells
    assert [record["cells"] for record in records[1:]] == [pytest.approx(every / 100, abs=1), 50]
    for record in records:
        assert record["mean_ap"] == pytest.approx(np.mean(list(record["ap"].values())))
    assert "| wood_0 | 1 | 0.01 | 41 |" in printed


def test_average_precision_equals_torchmetrics():
    generator = torch.Generator().manual_seed(0)
    scores = (torch.rand(500, generator=generator) * 20).round() / 20  # many are equal
    defect = torch.rand(500, generator=generator) < 0.2
    expected = float(BinaryAveragePrecision()(scores, defect.int()))
    assert average_precision(scores.numpy(), defect.numpy()) == pytest.approx(expected, abs=1e-6)


def test_memory_is_measured_for_every_number_of_crops():
    few, many = (memory.measure("relation (default)", crops, torch.get_num_threads()) for crops in (1, 3))
    assert few["encoding_mib"] == many["encoding_mib"] > 0
    assert 0 < few["peak_mib"] <= many["peak_mib"]
    records = [{"head": "x", "crops": c, "model_mib": 0, **r} for c, r in ((1, few), (3, many))]
    assert memory.tables(records)[3].startswith(f"| x | 3 | {many['peak_mib']:.0f} | ")
    assert coreset.tables([])[0].startswith("| category | shots | coreset |")
