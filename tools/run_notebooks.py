"""Run notebooks in a new folder and keep what they show: python tools/run_notebooks.py examples/NAME.ipynb ...

What is kept is what a reader wants: no warnings, no progress bars, no times, no paths of the machine, pictures once.
"""

import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

TIMEOUT = 600
CODES = re.compile(r"\x1b\[[\d;?]*[a-zA-Z]")
"""Colours and movements of a terminal."""


def executed(path: Path, folder: Path) -> NotebookNode:
    """Return a notebook with its outputs, run in a folder.

    Raises:
        CellExecutionError: If a cell fails.
    """
    # cells of the shell find the programs beside this Python, such as `anomalib-sofs`
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=TIMEOUT, kernel_name="python3", resources=resources).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = tidy(cell.outputs, folder)
    return notebook


def tidy(outputs: list[NotebookNode], folder: Path) -> list[NotebookNode]:
    """Return the outputs of a cell as they are kept: what was printed in one piece, then what is shown."""
    printed = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    lines = [line.rpartition("\r")[2] for line in CODES.sub("", printed).replace(f"{folder}/", "").splitlines()]
    text = "".join(f"{line}\n" for line in lines if line.strip() and not line.startswith("Predicting"))
    # what rich displays is text, which it prints as well in a terminal
    shown = [output for output in outputs if "data" in output and "text/html" not in output.data]
    for output in shown:
        if "image/jpeg" in output.data:
            output.data.pop("image/png", None)
    return ([nbformat.v4.new_output("stream", name="stdout", text=text)] if text else []) + shown


def main(paths: list[str]) -> None:
    """Run notebooks and write them back."""
    for path in map(Path, paths):
        with tempfile.TemporaryDirectory() as folder:
            notebook = executed(path, Path(folder).resolve())
        aside = path.with_suffix(".part")
        nbformat.write(notebook, aside)
        aside.replace(path)
        print(path)


if __name__ == "__main__":
    main(sys.argv[1:])
