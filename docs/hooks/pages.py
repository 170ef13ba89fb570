"""Documents that lie outside of docs/ become pages, too, and links between all of them lead to pages.

In the repository every link is a path from the file that it stands in; here README.md is the first page.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "anomalib_sofs/model/pretrained/README.md": "model_card.md",
}
SOURCES = {page: source for source, page in OUTSIDE.items()}
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")
ROLE = re.compile(r":(?:class|meth|mod|func|attr|data):<code>~?\.?(?:[\w]+\.)*?((?:[A-Z]\w*\.)?\w+)</code>")
"""A cross reference in a docstring, which names a thing by its full path: the last part is shown."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the documents outside of docs/."""
    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Let links lead to pages; of a file that is no page only the text of the link stays."""
    here = page.file.src_uri
    folder = posixpath.dirname(SOURCES.get(here, f"docs/{here}"))

    def lead(found: re.Match[str]) -> str:
        picture, text, path, anchor = found.groups(default="")
        target = posixpath.normpath(posixpath.join(folder, path))
        inside = OUTSIDE.get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else None)
        if inside is None:
            if not (ROOT / target).exists():
                return found.group(0)  # mkdocs says that it leads nowhere
            return text
        return f"{picture}[{text}]({posixpath.relpath(inside, posixpath.dirname(here) or '.')}{anchor})"

    return LINK.sub(lead, markdown)


def on_page_content(html: str, **_: object) -> str:
    """Show the cross references of docstrings as names."""
    return ROLE.sub(r"<code>\1</code>", html)
