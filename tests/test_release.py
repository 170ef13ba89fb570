"""The wheel: built, checked, installed where nothing of the source tree is, and used; what loading a file may do."""

import os
import re
import subprocess
import sys
import time
import tomllib
import venv
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import anomalib_sofs

from .conftest import REPOSITORY
from .helpers_scripts import ENVIRONMENT, run

SNIPPET = """
import torch
from anomalib_sofs import Sofs, SupportSet

model = Sofs(threshold=0.6)
model.set_support(SupportSet.from_folder("SUPPORT"))
found = model.model.predict(torch.zeros(1, 3, 64, 64), model.model.support)
reveal_type(SupportSet.from_folder)
Sofs(threshold="much")
SupportSet()
"""


def outside(*command, cwd):
    """Run a program that sees nothing of the source tree."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env=kept | ENVIRONMENT, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done


def built(source, folder, *options):
    """Build what an index takes."""
    outside(sys.executable, "-m", "build", "--no-isolation", *options, "--outdir", folder, source, cwd=folder)
    return folder


def installed(wheels, folder):
    """Make an environment with nothing but the wheel, over the dependencies that are installed already."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin/python"
    (wheel,) = wheels.glob("*.whl")
    outside(
        sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel, cwd=wheels
    )
    (site,) = folder.glob("lib/python*/site-packages")
    # its .pth files are not read from there, those of an editable installation among them
    (site / "dependencies.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    return folder


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """Wheel and sdist."""
    return built(REPOSITORY, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def bare(dist, tmp_path_factory):
    """A new environment with nothing but the wheel."""
    return installed(dist, tmp_path_factory.mktemp("bare"))


@pytest.mark.slow
def test_what_is_built_is_complete_and_fit_for_an_index(dist):
    pytest.importorskip("twine")
    outside(sys.executable, "-m", "twine", "check", "--strict", *dist.iterdir(), cwd=dist)
    assert {path.name for path in dist.iterdir()} == {
        f"anomalib_sofs-{anomalib_sofs.__version__}.tar.gz",
        f"anomalib_sofs-{anomalib_sofs.__version__}-py3-none-any.whl",
    }


@pytest.mark.slow
def test_the_wheel_alone_does_the_main_job(bare, support_folder, tmp_path):
    where = outside(
        bare / "bin/python", "-c", "import anomalib_sofs as a; print(a.__file__, a.__version__)", cwd=tmp_path
    )
    assert where.stdout.split()[0].startswith(str(bare))
    assert where.stdout.split()[1] == anomalib_sofs.__version__
    outside(
        bare / "bin/anomalib-sofs", "find", support_folder / "support", support_folder / "images", "--out", "found",
        cwd=tmp_path,
    )  # fmt: skip
    assert {file.stem for file in (tmp_path / "found").rglob("*_mask.png")} == {"0_mask", "1_mask"}
    # the start-up hook is in the wheel, too: anomalib knows the model without any import of ours
    hook = "import anomalib.models as m; print('sofs' in m.list_models(), m.Sofs.__module__)"
    assert outside(bare / "bin/python", "-c", hook, cwd=tmp_path).stdout.split()[-2:] == [
        "True",
        "anomalib_sofs.model.lightning_model",
    ]


@pytest.mark.slow
def test_from_a_fresh_clone_to_the_first_find_on_an_own_image(support_folder, tmp_path, capsys):
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a clone: there is nothing to clone")
    times = [time.monotonic()]
    outside("git", "clone", "-q", REPOSITORY, tmp_path / "clone", cwd=tmp_path)
    times.append(time.monotonic())
    (tmp_path / "wheel").mkdir()
    environment = installed(built(tmp_path / "clone", tmp_path / "wheel", "--wheel"), tmp_path / "environment")
    times.append(time.monotonic())
    outside(
        environment / "bin/anomalib-sofs", "find", support_folder / "support", support_folder / "images" / "0.png",
        "--out", "found", cwd=tmp_path,
    )  # fmt: skip
    times.append(time.monotonic())
    (mask,) = (tmp_path / "found").rglob("0_mask.png")
    assert np.asarray(Image.open(mask)).any()
    clone, install, find = (after - before for before, after in pairwise(times))
    with capsys.disabled():
        print(  # noqa: T201 - what this test is for
            f"\nFrom a fresh clone to the first find: {times[-1] - times[0]:.0f} s (clone {clone:.0f} s, build and "
            f"install {install:.0f} s without its dependencies, find {find:.0f} s)"
        )


@pytest.mark.slow
def test_types_reach_a_user_of_the_wheel(bare, tmp_path):
    (tmp_path / "snippet.py").write_text(SNIPPET)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-executable", bare / "bin/python", "--ignore-missing-imports", "snippet.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "missing library stubs or py.typed" not in done.stdout
    assert "-> SupportSet" in done.stdout.replace("anomalib_sofs.model.support.", "")
    assert 'Argument "threshold" to "Sofs" has incompatible type "str"' in done.stdout
    assert 'Missing positional arguments "images", "masks" in call to "SupportSet"' in done.stdout


def test_one_place_says_the_version():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert "version" not in project["project"]
    assert re.search(
        rf"^## \[{re.escape(anomalib_sofs.__version__)}\] - \d{{4}}-\d\d-\d\d$",
        (REPOSITORY / "CHANGELOG.md").read_text(),
        re.MULTILINE,
    )
    assert f"\nversion: {anomalib_sofs.__version__}\n" in (REPOSITORY / "CITATION.cff").read_text()


def test_every_dependency_has_a_lower_bound(tmp_path):
    bounds = run(sys.executable, REPOSITORY / "tools/lowest_versions.py", cwd=tmp_path).stdout.splitlines()
    assert len(bounds) == len(tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"])
    assert all(re.fullmatch(r"[\w-]+==[\d.]+", bound) for bound in bounds)


class Evil:
    """What a pickle can do: write a file when it is read."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("option", ["--ckpt_path", "--model.weights"])
def test_code_in_a_checkpoint_is_refused_and_not_run(option, support_folder, tmp_path):
    canary = tmp_path / "it ran"
    torch.save({"state_dict": {}, "hyper_parameters": {"backbone": Evil(canary)}}, tmp_path / "evil.ckpt")
    if option == "--ckpt_path":
        command = ["anomalib-sofs", "find", "-", support_folder / "images", "--out", "found", option, "evil.ckpt"]
    else:
        command = [
            "anomalib", "predict", "--model", "Sofs", "--model.support", support_folder / "support",
            "--data", support_folder / "images", option, "evil.ckpt",
        ]  # fmt: skip
    done = run(*command, cwd=tmp_path, check=False)
    assert done.returncode
    assert not canary.exists()
    assert "evil.ckpt" in done.stderr
    assert "weights_only=True" in done.stderr
    assert "Traceback" not in done.stderr
