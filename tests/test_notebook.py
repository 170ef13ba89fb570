"""The code of the notebook of the loop runs as it stands there; test_notebooks.py runs the others, with their pictures."""

import json

import pytest

from .conftest import REPOSITORY


@pytest.mark.parametrize("notebook", [REPOSITORY / "examples/mark_find_correct.ipynb"], ids=lambda path: path.stem)
def test_the_notebook_runs(notebook, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for cell in json.loads(notebook.read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), str(notebook), "exec"), names)  # noqa: S102 - ours
    assert "found on the query before and after" in capsys.readouterr().out
