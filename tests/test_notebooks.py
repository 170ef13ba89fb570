"""The notebooks run, and what they show is kept in them without paths of a machine."""

import json
import re

import pytest

from .conftest import REPOSITORY

NOTEBOOKS = [REPOSITORY / "examples" / f"{name}.ipynb" for name in ("quick_start", "train_export_deploy")]
by_name = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@by_name
@pytest.mark.slow
def test_it_runs_and_shows_pictures(path, tmp_path):
    run_notebooks = pytest.importorskip("tools.run_notebooks", reason="needs nbclient and ipykernel: extra [dev]")
    notebook = run_notebooks.executed(path, tmp_path)
    kinds = [set(output.get("data", {})) for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/jpeg" in found for found in kinds)
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert str(tmp_path) not in printed
    if path.stem == "train_export_deploy":
        assert "largest difference below 1e-3: True" in printed


@by_name
def test_what_is_kept_shows_pictures_and_no_paths(path):
    text = path.read_text()
    outputs = [output for cell in json.loads(text)["cells"] for output in cell.get("outputs", [])]
    assert any("image/jpeg" in output.get("data", {}) for output in outputs)
    assert not re.search(r"(/tmp/|/root/|/home/|/work/|site-packages)", text)
    assert len(text) < 400_000
