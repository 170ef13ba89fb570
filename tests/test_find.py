"""`anomalib-sofs find`: what `anomalib predict` does, quietly, with exit codes."""

import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from .conftest import pictures_folder
from .helpers_scripts import run


def find(*arguments, cwd, **how):
    return run("anomalib-sofs", "find", *arguments, cwd=cwd, **how)


def read(folder):
    """What every file of results holds; pictures and maps as arrays."""
    files = sorted(file for file in folder.rglob("*") if file.suffix in {".json", ".png"})
    return {
        file.relative_to(folder): np.asarray(Image.open(file)).tolist()
        if file.suffix == ".png"
        else file.read_text().replace(str(folder), "")
        for file in files
    }


def test_finds_the_same_as_predict_and_says_little(support_folder, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(support_folder / "images", images)
    # fresh: what others say while they are imported counts, too
    done = find(support_folder / "support", images, "--out", tmp_path / "found", cwd=tmp_path, fresh=True)
    predicted = run(
        "anomalib", "predict", "--model", "Sofs", "--model.support", support_folder / "support", "--data", images,
        cwd=tmp_path,
    )  # fmt: skip
    found = read(pictures_folder(done.stdout))
    assert found == read(pictures_folder(predicted.stdout))
    assert len(json.loads(found[next(name for name in found if name.name == "0.json")])["regions"]) > 0
    assert "Predicting" in done.stdout + done.stderr  # the progress bar
    assert not [line for line in (done.stdout + done.stderr).splitlines() if "INFO" in line or "Warning" in line]
    assert done.stderr.strip() == ""


def result(folder, name):
    """What the results say about an image."""
    (file,) = (file for file in folder.rglob(f"{name}.json") if "labelme" not in file.parts)
    return json.loads(file.read_text())


def test_takes_paths_that_anomalib_refuses_and_good_parts(support_folder, tmp_path):
    images = tmp_path / "Prüfbilder"
    shutil.copytree(support_folder / "images", images)
    find(support_folder / "support", images / "0.png", "--out", tmp_path / "found", cwd=tmp_path)
    assert result(tmp_path / "found", "0")["image"].endswith("Prüfbilder/0.png")
    find(images, images / "0.png", "--normal", "--out", tmp_path / "off", cwd=tmp_path)
    found = result(tmp_path / "off", "0")
    assert found["support"]["normal"] is True
    assert 0 <= found["score"] <= 0.5  # it is one of the good parts itself


def test_a_broken_image_is_named_and_the_others_are_finished(support_folder, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(support_folder / "images", images)
    content = (images / "0.png").read_bytes()
    (images / "broken.png").write_bytes(content[: len(content) // 2])
    done = find(support_folder / "support", images, "--out", tmp_path / "found", cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "broken.png" in done.stderr
    assert {file.stem for file in (tmp_path / "found").rglob("*.json")} >= {"0", "1"}
    assert not list((tmp_path / "found").rglob("broken*"))
    done = find(
        support_folder / "support", images / "broken.png", "--out", tmp_path / "none", cwd=tmp_path, check=False
    )
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("anomalib-sofs find: ")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("SUPPORT", "nowhere", "--out", "x"), "anomalib-sofs find: nowhere does not exist."),
        (("nowhere", "IMAGES", "--out", "x"), "anomalib-sofs find: support='nowhere' is not possible"),
        (("-", "IMAGES", "--out", "x"), "anomalib-sofs find: No support set: name a support folder, or a checkpoint"),
        (("SUPPORT", "IMAGES", "--out", "x", "--ckpt_path", "no.ckpt"), "anomalib-sofs find: The checkpoint no.ckpt"),
    ],
)
def test_nothing_done_is_exit_code_2_and_one_line(support_folder, tmp_path, arguments, reason):
    places = {"SUPPORT": support_folder / "support", "IMAGES": support_folder / "images"}
    done = find(*(places.get(word, word) for word in arguments), cwd=tmp_path, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(reason)
    assert not (tmp_path / "x").exists()


def test_help_answers_without_importing_torch(tmp_path):
    code = (
        "import sys; from anomalib_sofs.cli import main\n"
        "try: main([{arguments}])\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    for arguments, word in (("'--help'", "benchmark"), ("'find', '--help'", "SUPPORT")):
        done = run(sys.executable, "-c", code.format(arguments=arguments), cwd=tmp_path)
        assert word in done.stdout
        assert done.stdout.splitlines()[-1] == "0 False"
    done = run(sys.executable, "-m", "anomalib_sofs.cli", "benchmark", "--help", cwd=tmp_path)
    assert "fss" in done.stdout
