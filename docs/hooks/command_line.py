"""The reference of the command line is what the parsers themselves say, whenever the pages are built."""

import contextlib
import io
import os
import re

from mkdocs.structure.pages import Page

MARK = re.compile(r"^<!-- help: (.*) -->$", re.MULTILINE)
WIDTH = "100"


def help_of(words: list[str]) -> str:
    """Return what a command of `anomalib-sofs` says when it is asked for help."""
    from anomalib_sofs.cli import main  # noqa: PLC0415

    os.environ["COLUMNS"] = WIDTH
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return re.sub(r"\x1b\[[\d;]*m", "", said.getvalue()).strip()


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Put the help of commands where the page asks for it."""
    del page
    return MARK.sub(lambda mark: f"```text\n{help_of(mark.group(1).split())}\n```", markdown)
