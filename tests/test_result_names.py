"""Every image has a place of its own for its results."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from anomalib_sofs.results.files import UnwritableError, write_json
from anomalib_sofs.results.folder import ResultsFolder
from anomalib_sofs.results.names import result_stems

from . import trees
from .conftest import pictures_folder
from .helpers_scripts import run


@pytest.mark.parametrize(
    ("images", "stems"),
    [
        (["/d/images/0.png"], ["images/0"]),
        (["/d/images/0.png", "/d/images/1.png"], ["images/0", "images/1"]),
        (["/d/test/pit/0.png", "/d/test/crack/0.png"], ["pit/0", "crack/0"]),
        (["/d/a/images/0.png", "/d/b/images/0.png"], ["a/images/0", "b/images/0"]),
        (["/d/0.png", "/d/d/0.png"], ["0", "d/0"]),
        (["/d/0.png", "/d/0.jpg", "/d/1.png"], ["d/0.png", "d/0.jpg", "d/1"]),
        (["/d/part.png", "/d/part_mask.png"], ["d/part", "d/part_mask.png"]),
        (["/d/part_mask.png", "/d/other.png"], ["d/part_mask", "d/other"]),
        (["/d/part.png", "/d/e/part_probability.png"], ["part", "e/part_probability"]),
        (["/d/v1.2.png", "/d/v1.3.png"], ["d/v1.2", "d/v1.3"]),
        (["/d/0.png", "/d/0.png"], ["d/0"]),
        ([], []),
    ],
)
def test_places_are_as_short_as_they_can_be(images, stems):
    assert [str(stem) for stem in result_stems(images).values()] == stems
    assert list(result_stems(images)) == list(dict.fromkeys(images))


def test_relative_files_are_found_under_the_name_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert {name: str(stem) for name, stem in result_stems(["0.png"]).items()} == {"0.png": f"{tmp_path.name}/0"}


def test_names_beside_the_results_are_not_given_to_images():
    stems = result_stems(["/d/coco.png", "/d/labelme/0.png", "/d/0.png", "/d/e/coco.png"])
    assert [str(stem) for stem in stems.values()] == ["coco_", "labelme_/0", "0", "e/coco"]


def test_names_too_long_for_results_are_shortened_alike_in_every_run_and_kept_apart(caplog):
    names = [f"/d/{'ü' * 118}{letter}.png" for letter in "ab"]
    stems = result_stems(names)
    assert len({*stems.values()}) == 2
    assert all(len(f"{stem.name}_probability.png".encode()) <= 255 for stem in stems.values())
    assert all(stem.name.startswith("ü" * 80) for stem in stems.values())
    assert result_stems(names) == stems
    assert result_stems(names[:1])[names[0]] == stems[names[0]]
    assert "2 file name(s) are too long" in caplog.text


def finished_run(first, *images):
    """Write what a run leaves of some images."""
    folder = ResultsFolder.reserve(first, result_stems(images))
    for stem in folder.stems.values():
        write_json({}, folder.path / f"{stem}.json")
    folder.beat()
    folder.release()
    return folder.path.name


def test_a_folder_is_taken_over_only_if_all_its_results_are_made_anew(tmp_path):
    first = tmp_path / "predictions"
    assert finished_run(first, "/a/images/0.png") == "predictions"
    assert finished_run(first, "/b/images/0.png") == "predictions_2"
    assert finished_run(first, "/a/images/0.png") == "predictions"  # the same image replaces its own results
    assert finished_run(first, "/a/images/0.png", "/a/images/1.png") == "predictions"  # and may come with others
    assert finished_run(first, "/a/images/0.png") == "predictions_3"  # the results of 1.png would be among them
    assert finished_run(first) == "predictions_4"  # a run that does not know its images beforehand
    assert finished_run(first) == "predictions_5"


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path):
    (tmp_path / "predictions").mkdir()
    assert finished_run(tmp_path / "predictions", "/a/0.png") == "predictions_2"
    assert not list((tmp_path / "predictions").iterdir())


def test_a_corrected_file_is_not_replaced(tmp_path):
    first = tmp_path / "predictions"
    finished_run(first, "/a/images/0.png")
    time.sleep(0.02)  # file systems tell times this far apart
    (first / "images/0.json").write_text("corrected")
    assert finished_run(first, "/a/images/0.png") == "predictions_2"
    assert (first / "images/0.json").read_text() == "corrected"


HOLD = """
import sys, time
from pathlib import Path
from anomalib_sofs.results.folder import ResultsFolder
from anomalib_sofs.results.names import result_stems
folder = ResultsFolder.reserve(Path(sys.argv[1]), result_stems(["/a/images/0.png"]))
print(folder.path.name, flush=True)
time.sleep(100)
"""


def test_the_folder_of_a_running_process_is_not_touched_and_that_of_a_killed_one_is(tmp_path):
    first = tmp_path / "predictions"
    with subprocess.Popen([sys.executable, "-c", HOLD, first], stdout=subprocess.PIPE, text=True) as process:
        reserved, meanwhile = process.stdout.readline(), finished_run(first, "/a/images/0.png")
        process.send_signal(signal.SIGKILL)
    assert (reserved, meanwhile) == ("predictions\n", "predictions_2")
    assert finished_run(first, "/a/images/0.png") == "predictions"


CLAIM = """
import sys
from pathlib import Path
from anomalib_sofs.results.folder import ResultsFolder
from anomalib_sofs.results.names import result_stems
print("ready", flush=True)
sys.stdin.readline()
folders = [ResultsFolder.reserve(Path(sys.argv[1]), result_stems(["/a/images/0.png"])) for _ in range(20)]
print(*(folder.path.name for folder in folders), flush=True)
sys.stdin.readline()  # the other process shall not find a finished one
"""


def test_processes_that_start_at_the_same_time_never_get_the_same_folder(tmp_path):
    command = [sys.executable, "-c", CLAIM, str(tmp_path / "predictions")]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) for _ in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
    given = [process.stdout.readline().split() for process in processes]
    for process in processes:
        process.communicate("end\n")
    assert [len(names) for names in given] == [20, 20]
    assert len({*given[0], *given[1]}) == 40


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UnwritableError, match=r"cannot be written to .*/file/predictions: .* A file lies where"):
        ResultsFolder.reserve(tmp_path / "file" / "predictions", {})


FULL = """
import resource, signal, sys
from pathlib import Path
from anomalib_sofs.results.files import write_json
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
write_json("x" * 5000, Path(sys.argv[1]) / "folder" / "0.json")
"""


@pytest.mark.skipif(os.name == "nt", reason="no limits for files")
def test_a_full_disk_is_named_and_nothing_is_half_written(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"Results cannot be written to {tmp_path / 'folder'}: File too large. Free some space" in done.stderr
    assert not list((tmp_path / "folder").iterdir())


def test_predict_keeps_equal_names_of_two_folders_apart(support_folder, tmp_path):
    sizes = {"a/images": (40, 64), "b/images": (64, 48), "c": (56, 56)}
    for folder, size in sizes.items():
        trees.picture(tmp_path / "data" / folder / "0.png", size)
    done = run("anomalib", "predict", "--model", "Sofs", "--model.support", support_folder / "support",
               "--data", tmp_path / "data", cwd=tmp_path)  # fmt: skip
    folder = pictures_folder(done.stdout)
    assert (
        len([path for path in folder.rglob("*") if path.is_file() and "labelme" not in path.parts])
        == 4 * len(sizes) + 3
    )
    for name, size in sizes.items():
        found = json.loads((folder / name / "0.json").read_text())
        assert (found["height"], found["width"]) == size
        assert found["image"] == str(tmp_path / "data" / name / "0.png")
