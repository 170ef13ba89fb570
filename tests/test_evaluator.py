"""The table of a real test run: which decisions it measures, what it leaves out, and in how many processes."""

import json
import shutil

import numpy as np
import pytest
import torch
from anomalib.data import MVTecAD
from anomalib.engine import Engine
from PIL import Image

from anomalib_sofs import MVTecADEpisodes, Sofs, SupportSet
from anomalib_sofs.model.post_processor import SofsPostProcessor
from anomalib_sofs.tensors import read_image

from .conftest import table
from .helpers_scripts import run

ROWS = {"image_AUROC", "image_F1Score", "pixel_AUROC", "pixel_AUPRO", "pixel_F1Score"}


@pytest.fixture(scope="module")
def uneven(products, tmp_path_factory):
    """A category with one break and two holes to find, and a support folder that marks one of each."""
    root = tmp_path_factory.mktemp("uneven")
    source, part = products / "casting_0", root / "data/part"
    shutil.copytree(source / "train", part / "train")
    for defect, numbers in (("break", [1]), ("hole", [1, 2]), ("good", [0])):
        for number in numbers:
            (part / "test" / defect).mkdir(parents=True, exist_ok=True)
            shutil.copy(source / f"test/{defect}/{number:03}.png", part / "test" / defect)
            if defect != "good":
                (part / "ground_truth" / defect).mkdir(parents=True, exist_ok=True)
                shutil.copy(source / f"ground_truth/{defect}/{number:03}_mask.png", part / "ground_truth" / defect)
    for defect in ("break", "hole"):
        for kind, file in (("image", f"test/{defect}/000.png"), ("mask", f"ground_truth/{defect}/000_mask.png")):
            (root / "support" / defect / kind).mkdir(parents=True)
            shutil.copy(source / file, root / "support" / defect / kind)
    return root


def measured(uneven, folder, **options):
    """Test on the category and return the table and what the report of classes says, if there is one."""
    model = Sofs(visualizer=False, **options)
    engine = Engine(default_root_dir=folder, accelerator="cpu", devices=1, logger=False)
    datamodule = MVTecAD(root=uneven / "data", category="part", num_workers=0)
    (values,) = engine.test(model=model, datamodule=datamodule)
    return values, report_in(folder)


def report_in(folder):
    file = next(folder.rglob("classes.json"), None)
    return json.loads(file.read_text()) if file else None


@pytest.fixture(scope="module")
def plain(uneven, tmp_path_factory):
    """What a model with default components measures."""
    return measured(uneven, tmp_path_factory.mktemp("plain"), support=uneven / "support")


def test_a_sensitivity_moves_masks_classes_iou_and_confusion_alike(uneven, plain, tmp_path):
    sensitive = SofsPostProcessor(pixel_sensitivity=0.9)
    values, report = measured(uneven, tmp_path, support=uneven / "support", post_processor=sensitive)
    model = Sofs().eval()
    model.set_support(SupportSet.from_folder(uneven / "support"))
    expected = np.zeros((3, 3), dtype=int)
    for file in (uneven / "data/part/test").glob("*/*.png"):
        with torch.inference_mode():
            maps = model.model.predict(model.model.normalise(read_image(file))[None]).maps[0].numpy()
        found = np.where(maps.max(axis=0) > 0.1, maps.argmax(axis=0) + 1, 0)
        mask = uneven / f"data/part/ground_truth/{file.parent.name}/{file.stem}_mask.png"
        truth = np.asarray(Image.open(mask)) > 0 if mask.is_file() else np.zeros_like(found)
        np.add.at(expected, (truth * {"break": 1, "hole": 2, "good": 0}[file.parent.name], found), 1)
    assert report["truth"] == report["found"] == ["background", "break", "hole"]
    assert np.abs(np.array(report["pixels"]) - expected).max() <= 3  # a pixel at the threshold may fall either way
    assert np.abs(np.array(plain[1]["pixels"]) - expected).max() > 30  # which is not what one half would give
    right = expected[1:, 1:].sum()  # of F1, which knows defects only
    assert values["pixel_F1Score"] == pytest.approx(2 * right / (expected[1:].sum() + expected[:, 1:].sum()), abs=2e-3)
    for i, name in ((1, "break"), (2, "hole")):
        iou = expected[i, i] / (expected[i].sum() + expected[:, i].sum() - expected[i, i])
        assert values[f"IoU/{name}"] == pytest.approx(iou, abs=5e-3)
    assert {values[name] for name in ("pixel_AUROC", "pixel_AUPRO")} == {
        plain[0][name] for name in ("pixel_AUROC", "pixel_AUPRO")
    }


def test_validation_decides_as_the_test_does(products, tmp_path):
    values = []
    for method in ("test", "validate"):
        model = Sofs(visualizer=False, post_processor=SofsPostProcessor(pixel_sensitivity=0.95, image_sensitivity=0.9))
        engine = Engine(default_root_dir=tmp_path, accelerator="cpu", devices=1, logger=False)
        # without base categories, the data to validate on is that to test on
        data = MVTecADEpisodes(
            products, base_categories=[], novel_categories=["casting_0"], num_workers=0, test_limit=1
        )
        values += getattr(engine, method)(model=model, datamodule=data)
    tested, validated = values
    assert validated == pytest.approx({f"val_{name}": value for name, value in tested.items()})
    assert 0 < tested["mIoU"] < 1


def test_without_a_post_processor_probabilities_are_measured_alike(uneven, plain, tmp_path):
    values, report = measured(uneven, tmp_path, support=uneven / "support", post_processor=False)
    assert values == pytest.approx(plain[0])
    assert report == plain[1]
    assert set(values) == ROWS | {"IoU/break", "IoU/hole", "mIoU"}


def test_without_a_post_processor_distances_are_cut_where_the_support_tells(uneven, tmp_path):
    values, report = measured(uneven, tmp_path, post_processor=False)
    assert set(values) == ROWS
    assert report is None


def test_without_an_evaluator_nothing_is_measured(uneven, tmp_path):
    assert measured(uneven, tmp_path, support=uneven / "support", evaluator=False) == ({}, None)


def test_two_processes_print_the_table_and_the_report_of_one(uneven, plain, tmp_path):
    """Lightning gives the break and a hole to the first process, the other hole and the good part to the second."""
    done = run(
        "anomalib", "test", "--model", "Sofs", "--model.support", uneven / "support", "--model.visualizer", "false",
        "--data", "MVTecAD", "--data.root", uneven / "data", "--data.category", "part", "--data.num_workers", "0",
        "--trainer.accelerator", "cpu", "--trainer.strategy", "ddp", "--trainer.devices", "2", cwd=tmp_path,
        env={"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert table(done.stdout) == pytest.approx(plain[0], abs=5e-4)
    report = report_in(tmp_path)
    assert report["truth"] == plain[1]["truth"]
    assert np.abs(np.array(report["pixels"]) - np.array(plain[1]["pixels"])).max() <= 3
