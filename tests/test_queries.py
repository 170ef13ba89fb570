"""What people really have in a folder of images to segment: one bad file must not cost the results of the others."""

import json
import logging
import shutil
import subprocess

import numpy as np
import pytest
from anomalib.data import PredictDataset
from anomalib.engine import Engine
from PIL import Image
from torch.utils.data import DataLoader

from anomalib_sofs import Sofs

from . import trees
from .conftest import pictures_folder
from .helpers_scripts import SCRIPTS, run

LONG = "n" * 236


def truncated(file, share=0.6):
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    return file


@pytest.fixture
def mixed(support_folder, tmp_path):
    """Images to segment, and beside them what is broken, no image, or named so long that nothing can be appended."""
    folder = tmp_path / "work/parts"
    shutil.copytree(support_folder / "images", folder / "ä ö")
    Image.open(support_folder / "images/0.png").save(folder / f"{LONG}.png")
    truncated(trees.picture(folder / "cut.png", (90, 90)))
    truncated(trees.picture(folder / "cut.jpg", (90, 90)))
    (folder / "empty.png").touch()
    (folder / "._0.png").write_bytes(b"\0\5\x16\7")
    trees.picture(folder / "__MACOSX/1.png")
    return folder


def predict(support_folder, cwd, *more, check=True):
    return run("anomalib", "predict", "--model", "Sofs", "--model.support", support_folder / "support", *more, cwd=cwd,
               check=check, env={"COLUMNS": "500"})  # fmt: skip


def test_broken_files_are_skipped_and_named_last_and_results_are_no_images_of_the_next_run(mixed, support_folder):
    work = mixed.parent
    first = predict(support_folder, work, "--data", ".", check=False)
    assert first.returncode == 1
    summary = first.stderr.splitlines()[-4:]
    assert summary[0] == "3 of 6 images could not be read and have no results:"
    assert [line.split(" is ")[0] for line in summary[1:]] == [
        f"  {mixed / name}" for name in ("cut.jpg", "cut.png", "empty.png")
    ]
    assert summary[3].startswith(f"  {mixed / 'empty.png'} is an empty file. Save it again")
    assert f"2 file(s) are no images ({mixed / '._0.png'}, ...) and were left out." in first.stderr
    folder = pictures_folder(first.stdout)
    results = sorted(folder.glob("**/*_mask.png"))
    assert [file.parent.name for file in results] == [folder.name, "ä ö", "ä ö"]
    shortened = next(file for file in folder.glob("*_mask.png"))
    assert len(shortened.name) < len(LONG)
    found = json.loads(shortened.with_name(shortened.name.replace("_mask.png", ".json")).read_text())
    assert found["image"] == str(mixed / f"{LONG}.png")
    assert np.asarray(Image.open(shortened)).shape == (120, 171)

    for name in ("cut.png", "cut.jpg", "empty.png"):
        (mixed / name).unlink()
    second = predict(support_folder, work, "--data", ".", "--model.visualizer", "false")
    left_out = len([*folder.rglob("*.png")])
    assert f"{left_out} file(s) are results of earlier runs" in second.stderr
    assert sorted(folder.glob("**/*_mask.png")) == results  # the same images go to the same folder again
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == ["predictions"]


def test_two_runs_at_once_into_one_folder_lose_nothing(support_folder, tmp_path):
    commands = []
    for name, size in (("a", (64, 40)), ("b", (40, 64))):
        for number in range(3):
            trees.picture(tmp_path / name / "images" / f"{number}.png", size, number)
        commands.append(["predict", "--model", "Sofs", "--model.support", support_folder / "support",
                         "--data", tmp_path / name / "images", "--default_root_dir", tmp_path / "out"])  # fmt: skip
    processes = [
        subprocess.Popen(
            [str(part) for part in (SCRIPTS / "anomalib", *command)],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for command in commands
    ]
    assert [process.wait(timeout=280) for process in processes] == [0, 0]
    found = [
        json.loads(file.read_text()) for file in tmp_path.glob("out/**/images/?.json") if "labelme" not in file.parts
    ]
    assert {result["image"] for result in found} == {
        str(tmp_path / f"{n}/images/{i}.png") for n in "ab" for i in range(3)
    }
    for folder in tmp_path.glob("out/Sofs/*/predictions*"):
        assert len({(result.size) for result in map(Image.open, folder.glob("images/*_mask.png"))}) == 1
        assert len(json.loads((folder / "coco.json").read_text())["images"]) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_from_python_the_predictions_of_the_others_are_returned(mixed, support_folder, tmp_path, caplog, workers):
    data = PredictDataset(mixed)
    engine = Engine(default_root_dir=tmp_path / "out", accelerator="cpu", devices=1)
    caplog.set_level(logging.WARNING)
    predictions = engine.predict(
        model=Sofs(support=support_folder / "support", visualizer=False),
        dataloaders=DataLoader(data, collate_fn=data.collate_fn, num_workers=workers),
    )
    assert [batch.image_path for batch in predictions] == [
        [str(mixed / name)] for name in (f"{LONG}.png", "ä ö/0.png", "ä ö/1.png")
    ]
    check = next(callback for callback in engine.trainer.callbacks if hasattr(callback, "skipped"))
    assert [path.name for path, _ in check.skipped] == ["cut.jpg", "cut.png", "empty.png"]
    assert caplog.records[-1].getMessage().startswith("3 of 6 images could not be read and have no results:")


def test_nothing_but_broken_files_is_an_error_that_says_so(support_folder, tmp_path):
    truncated(trees.picture(tmp_path / "images/0.png", (90, 90)))
    (tmp_path / "images/._0.png").touch()
    with pytest.raises(ValueError, match=r"no image to segment.* 1 hidden or of macOS .*, 1 not readable \(.*0\.png\)"):
        Engine(default_root_dir=tmp_path, accelerator="cpu", devices=1).predict(
            model=Sofs(support=support_folder / "support"), data_path=tmp_path / "images"
        )


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
def test_truncated_files_of_every_kind_are_found(tmp_path, suffix):
    from anomalib_sofs.query_files import check_queries

    whole = trees.picture(tmp_path / f"whole.{suffix}", (64, 80))
    cut = truncated(trees.picture(tmp_path / f"cut.{suffix}", (64, 80)))
    checked = check_queries([cut, whole])
    assert checked.images == [whole]
    ((path, reason),) = checked.skipped
    assert path == cut
    assert str(cut) in reason


def test_an_image_with_numbers_that_are_none_is_found(tmp_path):
    from anomalib_sofs.query_files import check_queries

    values = np.full((4, 4), 0.5, np.float32)
    values[1, 2] = np.nan
    Image.fromarray(values).save(tmp_path / "nan.tiff")
    ((_, reason),) = check_queries([tmp_path / "nan.tiff"]).skipped
    assert str(tmp_path / "nan.tiff") in reason
    assert "NaN" in reason


def test_hidden_folders_above_the_images_do_not_matter(tmp_path):
    from anomalib_sofs.query_files import check_queries

    image = trees.picture(tmp_path / ".cache/images/0.png")
    assert check_queries([image]).images == [image]
