"""Every episode datamodule by its short name: train two steps and test, through the real `anomalib` script."""

import pytest
import torch

from . import trees
from .conftest import pictures_folder, table
from .helpers_scripts import run

QUICK = ("--data.crop_size", "32", "--data.episodes_per_epoch", "8", "--data.num_workers", "0", "--trainer.accelerator",
         "cpu")  # fmt: skip


def mvtec(root):
    trees.mvtec(root, "cup", {"dent": 3, "hole": 2})
    trees.mvtec(root, "can", {"dent": 3})


def visa(root):
    trees.visa_raw(root, "candle", ["other", "wick", "other", "wick"])
    trees.visa_raw(root, "cashew", ["hole", "hole"])


def vision(root):
    trees.vision(root, "Cable")
    trees.vision(root, "Ring")


def folder(root):
    trees.images_masks(root / "cup")
    trees.images_masks(root / "can")


def surfaces(root):
    """SurfaceEpisodes renders its own."""
    root.mkdir(exist_ok=True)


SMALL = ("--data.image_size", "96", "--data.images_per_class", "2")
DATA = {  # what writes the tree, base and novel categories, further arguments, classes, normal queries
    "MVTecADEpisodes": (mvtec, "can", "cup", (), {"dent": 3, "hole": 2}, 2),
    "VisaEpisodes": (visa, "cashew", "candle", (), {"other": 2, "wick": 2}, 1),
    "VisionEpisodes": (vision, "Cable", "Ring", (), {"break": 4, "thunderbolt": 2}, 1),
    "DefectSpectrumEpisodes": (trees.defect_spectrum, "DAGM", "bottle", (), {"broken_large": 3, "contamination": 3}, 1),
    "FolderEpisodes": (folder, "can", "cup", (), {"defect": 3}, 0),
    "SurfaceEpisodes": (surfaces, "casting", "wood", SMALL, None, 2),
}


@pytest.mark.parametrize("name", DATA)
def test_trains_and_tests_by_its_name(name, tmp_path):
    write, base, novel, more, classes, good = DATA[name]
    write(tmp_path / "data")
    done = run(
        "anomalib", "train", "--model", "Sofs", "--data", name, "--data.root", tmp_path / "data",
        "--data.base_categories", f"[{base}]", "--data.novel_categories", f"[{novel}]", *more, *QUICK, cwd=tmp_path,
    )  # fmt: skip
    values = table(done.stdout)
    if classes is None:
        novel = f"{novel}_0"
        classes = {row.split("/")[2]: 2 for row in values if row.startswith(f"IoU/{novel}/")}
        assert len(classes) > 1
    aurocs = {"image_AUROC", "image_F1Score"} if good else {"image_F1Score"}
    assert set(values) == {f"IoU/{novel}/{label}" for label in classes} | {"mIoU", "FB-IoU", "pixel_AUROC"} | aurocs
    pictures = pictures_folder(done.stdout) / novel
    found = {folder.name: len(list(folder.glob("*.png"))) for folder in pictures.iterdir()}
    assert found == classes | ({"good": good} if good else {})
    saved = torch.load(next(tmp_path.glob("results/Sofs/*/*/v0/weights/lightning/*.ckpt")), weights_only=True)
    assert saved["global_step"] == 2
