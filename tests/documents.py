"""Commands and code of the documents, as blocks in the order in which a reader meets them."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from .conftest import REPOSITORY

FENCE = re.compile(r"^```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = {"bash", "python", "text", ""}
PAGES = sorted(
    {
        REPOSITORY / "README.md",
        REPOSITORY / "CONTRIBUTING.md",
        REPOSITORY / "SECURITY.md",
        *REPOSITORY.glob("docs/**/*.md"),
        *REPOSITORY.glob("anomalib_sofs/**/*.md"),
    }
)

EXCLUDED = {
    r"pip install|python -m venv|\.venv/bin/pip install": "the environment that runs this test is made so",
    r"anomalib-sofs (page|watch)": "goes on until it is stopped, and has tests of its own",
    r"anomalib-sofs run .* --engine ray": "starts a cluster: tests/test_ray.py",
    r"anomalib train --config configs/demo\.yaml": "takes minutes: `make demo` runs it",
    r".*(configs/paper\.yaml|PUBLISHED\.pth)": "needs weights from a hub, or the authors' file: tests/test_weights.py makes some",
    r"python tools/train_\w+\.py": "takes an hour and more",
}


@dataclass(frozen=True)
class Block:
    """A piece of code of a page."""

    language: str
    text: str

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of the shell."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks(page: Path) -> list[Block]:
    """List the blocks of a page."""
    return [Block(found["language"], found["text"]) for found in FENCE.finditer(page.read_text())]


def why_not(words: list[str]) -> str | None:
    """Return the reason why a command is not run, if there is one."""
    return next((why for pattern, why in EXCLUDED.items() if re.match(pattern, " ".join(words))), None)
