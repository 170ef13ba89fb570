"""The start-up hook, in wheels and editable installs."""

import subprocess
import sys
import zipfile

import pytest

from .conftest import REPOSITORY
from .helpers_scripts import run

LIST = "from anomalib.models import list_models; print('sofs' in list_models())"


def python(code, cwd, **env):
    return run(sys.executable, "-c", code, cwd=cwd, env=env)


def test_anomalib_knows_sofs_without_an_import_of_ours(tmp_path):
    assert python(LIST, tmp_path).stdout.strip().endswith("True")


def test_datamodules_are_found_on_anomalib_data_alone(tmp_path):
    code = "from anomalib.data import SurfaceEpisodes as S; print(S.__module__)"
    assert python(code, tmp_path).stdout.strip().endswith("anomalib_sofs.data.surface_episodes")


def test_switch_turns_it_off(tmp_path):
    assert python(LIST, tmp_path, ANOMALIB_SOFS_AUTOLOAD="0").stdout.strip().endswith("False")


def test_nothing_heavy_is_imported_at_start(tmp_path):
    code = "import sys; print([m for m in ('torch', 'anomalib', 'anomalib_sofs', 'importlib.metadata', 'inspect') if m in sys.modules])"
    assert python(code, tmp_path).stdout.strip() == "[]"


def test_importing_the_package_imports_nothing_heavy_and_still_registers(tmp_path):
    code = (
        "import sys, anomalib_sofs; print([m for m in ('torch', 'anomalib') if m in sys.modules]);"
        "from anomalib.data import MVTecLike; import anomalib.models; print(anomalib.models.Sofs is anomalib_sofs.Sofs);"
        + LIST
    )
    for switch in ("0", "1"):  # by hand it is on, whatever the switch says
        assert python(code, tmp_path, ANOMALIB_SOFS_AUTOLOAD=switch).stdout.split() == ["[]", "True", "True"]
    after = f"import anomalib.models, anomalib_sofs; print(anomalib.models.Sofs.__name__); {LIST}"
    assert python(after, tmp_path, ANOMALIB_SOFS_AUTOLOAD="0").stdout.split() == ["Sofs", "True"]


@pytest.mark.parametrize("first", ["deploy import export_bundle", "page.session import Session"])
def test_whoever_imports_a_part_first_has_all_of_it(tmp_path, first):
    done = python(f"from anomalib_sofs.{first}; {LIST}", tmp_path, PYTHONWARNINGS="default")
    assert done.stdout.strip().endswith("True")
    assert "could not be loaded" not in done.stderr


def test_our_own_failure_leaves_anomalib_working_and_names_the_cause(tmp_path):
    broken = tmp_path / "anomalib_sofs"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise RuntimeError('the cause')")
    done = run(sys.executable, "-c", LIST, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path), "PYTHONWARNINGS": "default"})
    assert done.stdout.strip().endswith("False")
    assert "anomalib_sofs could not be loaded" in done.stderr
    assert "the cause" in done.stderr


def test_wheel_ships_the_start_up_files_and_the_trained_heads(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, REPOSITORY], check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"anomalib_sofs.pth", "anomalib_sofs.start", "anomalib_sofs_autoload.py", "anomalib_sofs/py.typed"} <= names
    (entry_points,) = [name for name in names if name.endswith("entry_points.txt")]
    assert b"anomalib-sofs = anomalib_sofs.cli:main" in zipfile.ZipFile(wheel).read(entry_points)
    for head in ("relation", "paper"):
        assert f"anomalib_sofs/model/pretrained/{head}-tf_efficientnet_lite0.safetensors" in names
