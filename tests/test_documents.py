"""What README and docs tell people to run does run, word by word, in a folder where what they name exists."""

import os
import re
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from anomalib_sofs.cli import COMMANDS
from anomalib_sofs.data.surface_episodes import render_product
from anomalib_sofs.data.surfaces import render

from .conftest import REPOSITORY
from .documents import EXCLUDED, LANGUAGES, PAGES, blocks, why_not
from .helpers_scripts import ENVIRONMENT, run, run_in_fork

QUICK = {"README.md"}
"""Pages that every run of the tests goes through; the others are slow."""

PRODUCTS = {"A": "casting_0", "B": "wood_0", "C": "casting_1", "CATEGORY": "casting_2"}
SIZE = (112, 128)


def save(array, *files):
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(file)


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    """The folders and files that the documents name: SUPPORT, IMAGES, GOOD, ROI, CLASSES, ROOT, and an image of one's own."""
    root = tmp_path_factory.mktemp("things")
    image, mask = render("casting", "crack", style=3, seed=1, size=SIZE)
    mask *= np.uint8(255)
    save(image, root / "part_7.png", root / "SUPPORT/image/part_7.png", root / "CLASSES/crack/image/part_7.png")
    save(mask, root / "part_7_mask.png", root / "SUPPORT/mask/part_7.png", root / "CLASSES/crack/mask/part_7.png")
    image[10:17, 30:71] = 20
    save(image, root / "IMAGES/part_7.png")
    image, mask = render("casting", "pit", style=3, seed=2, size=SIZE)
    save(image, root / "CLASSES/pit/image/part_2.png")
    save(mask * np.uint8(255), root / "CLASSES/pit/mask/part_2.png")
    image[60:67, 40:81] = 20  # where the document of the page marks a rectangle
    save(image, root / "IMAGES/part_1.png")
    for number in range(2):
        save(render("casting", None, style=3, seed=5 + number, size=SIZE)[0], root / f"GOOD/part_{number}.png")
    for name in ("part_1", "part_7"):
        save(np.full(SIZE, 255, np.uint8), root / f"ROI/{name}.png")
    (root / "ROOT").mkdir()
    for name, product in PRODUCTS.items():
        render_product(root / "ROOT", product, images_per_class=2, size=96)
        (root / "ROOT" / product).rename(root / "ROOT" / name)
    for name in ("configs", "examples"):
        (root / name).symlink_to(REPOSITORY / name)
    return root


def do(command, cwd):
    """Run a command as the shell of a user would."""
    program, *rest = command
    if program == "python":
        program = sys.executable
    run(program, *rest, cwd=cwd)


def execute(text, file):
    """Run a Python block, in a process of its own."""
    file.write_text(text)
    done = run_in_fork([str(file)], file.parent, 300)
    assert done.returncode == 0, f"{text}\n{done.stderr[-3000:]}"


def names(pages):
    return [
        pytest.param(
            page,
            id=str(page.relative_to(REPOSITORY)),
            marks=() if str(page.relative_to(REPOSITORY)) in QUICK else pytest.mark.slow,
        )
        for page in pages
        if any(block.language in {"bash", "python"} for block in blocks(page))
    ]


@pytest.mark.parametrize("page", names(PAGES))
def test_what_a_page_tells_to_run_runs(page, things, tmp_path, monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    here = tmp_path / "here"
    shutil.copytree(things, here, symlinks=True)
    for number, block in enumerate(blocks(page)):
        if block.language == "python":
            execute(block.text, here / f"block_{number}.py")
        elif block.language == "bash":
            for words in block.commands:
                if why_not(words) is None:
                    do(words, here)


def test_every_block_has_a_language():
    unknown = {
        f"{page.relative_to(REPOSITORY)}: {block.language or 'none'}"
        for page in PAGES
        for block in blocks(page)
        if block.language not in LANGUAGES
    }
    assert not unknown


def test_no_exclusion_is_left_over():
    commands = [
        " ".join(words)
        for page in PAGES
        for block in blocks(page)
        if block.language == "bash"
        for words in block.commands
    ]
    unused = [pattern for pattern in EXCLUDED if not any(re.match(pattern, command) for command in commands)]
    assert not unused


def test_messages_of_the_troubleshooting_page_are_those_of_the_package():
    source = "\n".join(file.read_text() for file in REPOSITORY.glob("anomalib_sofs/**/*.py"))
    # strings that are written in pieces, one after the other, are one string
    source = re.sub(r'"\s*\n\s*f?"', "", source)
    page = (REPOSITORY / "docs/guide/troubleshooting.md").read_text()
    messages = re.findall(r"^\| `(.+?)` \|", page, re.MULTILINE)
    assert len(messages) > 20
    pieces = [piece.strip(" .'") for message in messages for piece in re.split(r"\.\.\.", message)]
    missing = [piece for piece in pieces if len(piece) > 3 and piece not in source]
    assert not missing


def test_the_reference_shows_every_command():
    page = (REPOSITORY / "docs/reference/command_line.md").read_text()
    benchmarks = re.search(r"TASKS = \{(.*)\}", (REPOSITORY / "anomalib_sofs/benchmark/__main__.py").read_text()).group(
        1
    )
    wanted = [*COMMANDS, *(f"benchmark {name}" for name in re.findall(r'"(\w+)":', benchmarks))]
    assert [name for name in wanted if f"<!-- help: {name} -->" not in page] == []


def test_the_readme_is_short():
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 120


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_to_files(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", text)
    broken = [link for link in links if not (page.parent / link).exists()]
    assert not [link for link in broken if os.path.splitext(link)[1] != ""]  # noqa: PTH122
