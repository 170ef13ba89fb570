"""`anomalib-sofs doctor`: a report for bug reports, and an exit code."""

import re
import sys

import pytest

from anomalib_sofs import doctor
from anomalib_sofs.cli import main

from .helpers_scripts import run

NAMES = ["versions", "processor", "torch", "anomalib", "weights", "writing", "prediction"]


def test_a_sound_installation_passes_every_check_without_paths(tmp_path):
    done = run("anomalib-sofs", "doctor", cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert [re.match(r"\[ok\] +(\w+): ", line).group(1) for line in lines[:-1]] == NAMES
    assert lines[-1] == "All checks passed."
    assert done.stderr == ""
    assert str(tmp_path) not in done.stdout
    assert sys.prefix not in done.stdout
    for word in ("Python 3.", "anomalib 2.", "torch 2.", "cores", "threads", "IoU"):
        assert word in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def quick(monkeypatch):
    """Without the checks that import torch and anomalib."""
    for name in ("threads", "registration", "weights", "prediction"):
        monkeypatch.setattr(doctor, name, lambda *_: "well")


@pytest.mark.usefixtures("quick")
def test_what_fails_is_said_with_a_remedy_and_the_rest_goes_on(monkeypatch, tmp_path, capsys):
    def broken():
        msg = "no module named this"
        raise ModuleNotFoundError(msg)

    monkeypatch.setattr(doctor, "weights", broken)
    monkeypatch.chdir(tmp_path)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "[fails] weights: ModuleNotFoundError: no module named this\n        what to do: install the package" in out
    assert out.splitlines()[-1] == "1 of the checks failed."
    assert "[ok]    prediction: well" in out


@pytest.mark.usefixtures("quick")
def test_versions_that_are_too_old_or_missing_fail_by_name(monkeypatch, capsys):
    found = {"torch": "2.9.0", "scipy": None}
    real = doctor.installed
    monkeypatch.setattr(doctor, "installed", lambda name: found[name] if name in found else real(name))
    monkeypatch.setattr(
        doctor, "requires", lambda _: ["torch>=2.10", "scipy>=1.11", "numpy", "gradio; extra == 'page'"]
    )
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "[fails] versions: torch is 2.9.0, needed: >=2.10; scipy is missing, needed: >=1.11\n" in out
    assert "gradio" not in out


@pytest.mark.usefixtures("quick")
def test_a_folder_that_cannot_be_written_to_is_named(monkeypatch, tmp_path, capsys):
    missing = tmp_path / "gone"
    monkeypatch.setattr(doctor.tempfile, "gettempdir", lambda: str(missing))
    assert main(["doctor"]) == 1
    assert f"[fails] writing: {missing} cannot be written to: No such file or directory" in capsys.readouterr().out


def test_instruction_sets_are_those_of_the_machine(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "CPUINFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("model name\t: Some Xeon\nflags\t\t: fpu avx2 avx512f amx_bf16 amx_int8\n")
    assert doctor.processor().startswith("Some Xeon, ")
    assert doctor.processor().endswith("instruction sets: avx2, avx512f, amx_bf16, amx_int8")
    (tmp_path / "cpuinfo").unlink()
    assert doctor.processor().endswith("instruction sets: none told")


def test_wrong_results_fail(monkeypatch):
    monkeypatch.setattr(doctor, "LEAST_IOU", 1.01)
    with pytest.raises(doctor.CheckError, match=r"overlap \(IoU\) of 0\.\d\d, expected 1.01 or more"):
        doctor.prediction()


@pytest.mark.parametrize(("setting", "advice"), [("PASSIVE", False), (None, True), ("ACTIVE", True)])
def test_spinning_threads_are_advised_against(setting, advice):
    assert ("set it to PASSIVE" in doctor.threads(setting)) is advice
