"""Runs that are started again: what is finished is kept, what is lost is made, and nothing is searched twice."""

import json
import os
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from PIL import Image

from anomalib_sofs.runtime import SofsInferencer
from anomalib_sofs.runtime.run import run as search

from .helpers_runtime import contents, part, parts, small_bundle
from .helpers_scripts import ENVIRONMENT, SCRIPTS, run


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("bundle") / "pits")


@pytest.fixture
def searched(monkeypatch):
    """Names of the images that are searched."""
    names = []
    start = SofsInferencer.start

    def noted(self, image, *arguments):
        names.append(image.name)
        start(self, image, *arguments)

    monkeypatch.setattr(SofsInferencer, "start", noted)
    return names


def test_a_second_run_searches_what_is_missing_or_changed_and_writes_the_same(bundle, tmp_path, searched):
    images = parts(tmp_path / "images")
    done = search(bundle, tmp_path / "images", tmp_path / "out")
    assert (done.images, done.before) == (6, 0)
    assert [file.name for file, _ in done.skipped] == ["broken.png"]
    assert sorted(searched) == sorted(image.name for image in images)
    first = contents(done.folder)
    source = json.loads(first["left/part_1.json"])["source"]
    assert source["bytes"] == images[0].stat().st_size
    assert source["changed"] == images[0].stat().st_mtime_ns

    searched.clear()
    done = search(bundle, tmp_path / "images", tmp_path / "out")
    assert (done.images, done.before, searched) == (6, 6, [])
    assert contents(done.folder) == first

    (done.folder / "left/part_1.json").unlink()  # as a process leaves it that is killed before the last file
    (done.folder / "left/part_3_mask.png").write_bytes(b"")
    os.utime(done.folder / "left/part_3_mask.png", (0, 0))
    Image.fromarray(part(seed=99)).save(images[2])
    Image.fromarray(part(seed=98)).save(tmp_path / "images/right/broken.png")
    done = search(bundle, tmp_path / "images", tmp_path / "out")
    assert (done.images, done.before, done.skipped) == (7, 3, [])
    assert sorted(searched) == ["broken.png", "part_1.png", "part_3.png", images[2].name]
    again = contents(done.folder)
    kept = {name for name in first if not name.startswith(("coco", "anomalib")) and images[2].stem not in name}
    assert {name: again[name] for name in kept} == {name: first[name] for name in kept}
    assert len(json.loads(again["coco.json"])["images"]) == 7


def test_another_bundle_searches_all_anew(bundle, tmp_path, searched):
    parts(tmp_path / "images", 2)
    search(bundle, tmp_path / "images", tmp_path / "out")
    other = SofsInferencer(bundle)
    assert other.support
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in bundle.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    told = json.loads((copy / "bundle.json").read_text())
    (copy / "bundle.json").write_text(json.dumps(told | {"threshold_logit": told["threshold_logit"] + 0.1}))
    searched.clear()
    done = search(copy, tmp_path / "images", tmp_path / "out")
    assert (done.before, len(searched)) == (0, 2)
    assert done.folder.name == "predictions"


def test_a_run_that_was_killed_is_taken_up_in_the_same_folder(bundle, tmp_path):
    """Killed at any moment: what it was writing is written again, what it has finished stays as it is."""
    parts(tmp_path / "images", 8)
    command = [SCRIPTS / "anomalib-sofs", "run", bundle, tmp_path / "images", "--out", tmp_path / "out"]
    folder = tmp_path / "out/predictions"
    process = subprocess.Popen(command, env=os.environ | ENVIRONMENT, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(list(folder.glob("*/part_*.json"))) >= 3, process)
    process.kill()
    process.wait()
    before = {file: file.stat().st_mtime_ns for file in folder.glob("*/part_*.json")}
    assert len(before) < 8
    done = run("anomalib-sofs", *command[1:], cwd=tmp_path, check=False)
    assert done.returncode == 1  # the broken one
    assert f"{len(before)} of 8 images had results of this bundle already." in done.stderr
    assert not (tmp_path / "out/predictions_2").exists()
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert len(json.loads((folder / "coco.json").read_text())["images"]) == 8
    assert not list(folder.rglob(".part-*"))


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"it has ended with {process.returncode}"
        assert time.monotonic() < end
        time.sleep(0.02)


# -- watch -------------------------------------------------------------------------------------------------------------


def watching(bundle, folder, out, *options, **environment):
    command = [SCRIPTS / "anomalib-sofs", "watch", bundle, folder, "--out", out, *options]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | ENVIRONMENT | environment
    )


def test_watch_loses_nothing_when_it_is_killed(bundle, tmp_path):
    pytest.importorskip("watchdog")
    folder, out = tmp_path / "camera", tmp_path / "out"
    images = parts(folder, 8)
    (folder / "right/broken.png").unlink()
    process = watching(bundle, folder, out)
    first = [json.loads(process.stdout.readline()) for _ in range(3)]
    process.send_signal(signal.SIGKILL)
    rest = process.communicate()[0].splitlines()
    with (out / "watched.jsonl").open("a") as ledger:
        ledger.write('{"image": "left/part_1.p')  # half a line is the most that can be lost of it
    process = watching(bundle, folder, out)
    said = [json.loads(line)["image"] for line in rest]
    second = []
    while {*said, *second, *(line["image"] for line in first)} != {*map(str, images)}:
        second.append(json.loads(process.stdout.readline())["image"])
    process.terminate()
    assert process.communicate()[0] == ""
    assert process.returncode == 0
    assert len({line["image"] for line in first} & {*second}) <= 1  # the one that was said, and not noted yet
    entries = [line for line in (out / "watched.jsonl").read_text().splitlines() if line.endswith("}")]
    assert len({json.loads(line)["image"] for line in entries}) == 8
    process = watching(bundle, folder, out)
    Image.fromarray(part(seed=77)).save(folder / "new.png")
    assert json.loads(process.stdout.readline())["image"] == str(folder / "new.png")  # and none of the others
    process.terminate()
    process.communicate()


def test_coco_of_watched_results_is_that_of_a_run(bundle, tmp_path):
    pytest.importorskip("watchdog")
    parts(tmp_path / "camera", 4)
    (tmp_path / "camera/right/broken.png").unlink()
    process = watching(bundle, tmp_path / "camera", tmp_path / "watched")
    for _ in range(4):
        process.stdout.readline()
    done = run("anomalib-sofs", "coco", tmp_path / "watched", cwd=tmp_path)  # while it goes on
    assert done.stdout == f"4 image(s): {tmp_path / 'watched/coco.json'}\n"
    process.terminate()
    process.communicate()
    ran = search(bundle, tmp_path / "camera", tmp_path / "ran")
    ours, theirs = contents(tmp_path / "watched"), contents(ran.folder)
    names = {name for name in theirs if name != "anomalib_sofs.json"}
    assert {name: ours[name] for name in names} == {name: theirs[name] for name in names}
    assert len(json.loads(ours["coco.json"])["annotations"]) >= 4


def test_coco_says_what_is_wrong_and_changes_no_time(bundle, tmp_path):
    parts(tmp_path / "images", 2)
    done = search(bundle, tmp_path / "images", tmp_path / "out")
    before = contents(done.folder)
    (done.folder / "coco.json").unlink()
    failed = run("anomalib-sofs", "coco", tmp_path / "out", cwd=tmp_path, check=False)
    assert failed.returncode == 2
    assert failed.stderr == (
        f"anomalib-sofs coco: {tmp_path / 'out'} is no folder of results; these are: {done.folder}.\n"
    )
    run("anomalib-sofs", "coco", done.folder, cwd=tmp_path)
    assert contents(done.folder) == before
    # somebody's correction is still seen as one
    (done.folder / "labelme/left/part_1.json").write_text("{}")
    run("anomalib-sofs", "coco", done.folder, cwd=tmp_path)
    assert search(bundle, tmp_path / "images", tmp_path / "out").folder.name == "predictions_2"


# -- bad input ---------------------------------------------------------------------------------------------------------


def limited(bundle, command, source, out):
    """Run a command whose files may have 1 kB at most: not every map does."""
    return subprocess.run(
        [SCRIPTS / "anomalib-sofs", command, bundle, source, "--out", out],
        env=os.environ | ENVIRONMENT, capture_output=True, text=True, check=False, timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024)),
    )  # fmt: skip


@pytest.mark.parametrize(("command", "place"), [("run", "predictions/images"), ("watch", "")])
def test_a_disk_without_room_ends_it_with_one_line_and_the_next_start_takes_it_up(bundle, tmp_path, command, place):
    """No abort by a thread of OpenVINO that still judges windows, and nothing half-written."""
    (tmp_path / "images").mkdir()
    for name in "abc":
        Image.fromarray(part(seed=ord(name), size=(600, 500))).save(tmp_path / f"images/{name}.png")
    full = limited(bundle, command, tmp_path / "images", tmp_path / "out")
    assert full.returncode == 2, full.stderr
    folder = tmp_path / "out" / place
    assert full.stderr.strip().splitlines()[-1] == (
        f"anomalib-sofs {command}: Results cannot be written to {folder}: File too large. "
        "Free some space, or write elsewhere (--out)."
    )
    assert "Traceback" not in full.stderr
    assert not list((tmp_path / "out").rglob(".part-*"))
    done = list(folder.glob("[abc].json"))
    assert len(done) < 3
    for file in done:  # whoever has a JSON has all
        for ending in ("mask", "probability"):
            assert Image.open(file.with_name(f"{file.stem}_{ending}.png")).convert("I").size == (500, 600)
    if command == "run":
        run("anomalib-sofs", "run", bundle, tmp_path / "images", "--out", tmp_path / "out", cwd=tmp_path)
        assert not (tmp_path / "out/predictions_2").exists()
    else:
        process = watching(bundle, tmp_path / "images", tmp_path / "out")
        said = {json.loads(process.stdout.readline())["image"] for _ in range(3 - len(done))}
        assert {Path(image).stem for image in said} == set("abc") - {file.stem for file in done}
        process.terminate()
        process.communicate()
    assert {path.name for path in folder.glob("[abc].json")} == {"a.json", "b.json", "c.json"}


@pytest.mark.parametrize("command", ["run", "watch"])
@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ("[]", (), "COPY/bundle.json cannot be read (TypeError("),
        ("version", (), "COPY is a bundle of version 99, this package reads version"),
        ("support", (), "COPY came without a support set, and none was set: "),
        ("cut", (), "COPY/decision.bin has 100 bytes instead of "),
        ("missing", (), "COPY/decision.bin is missing: the bundle was not copied whole."),
        ("", ("--device", "TPU"), "There is no device 'TPU' here. Devices: CPU"),
    ],
)
def test_a_bundle_that_cannot_be_used_is_said_in_one_line(bundle, tmp_path, capfd, command, change, options, message):
    from anomalib_sofs.cli import main

    copy = tmp_path / "COPY"
    shutil.copytree(bundle, copy)
    told = json.loads((copy / "bundle.json").read_text())
    if change == "[]":
        told = []
    elif change == "version":
        told["version"] = 99
    elif change == "support":
        del told["files"]["support.npz"]
    elif change == "cut":
        os.truncate(copy / "decision.bin", 100)
    elif change == "missing":
        (copy / "decision.bin").unlink()
    (copy / "bundle.json").write_text(json.dumps(told))
    Image.fromarray(part(seed=1)).save(tmp_path / "a.png")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert main([command, str(copy), str(tmp_path), "--out", str(tmp_path / "out"), *options]) == 2
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert line.startswith(f"anomalib-sofs {command}: {message}".replace("COPY", str(copy)))
    assert not (tmp_path / "out").exists()
