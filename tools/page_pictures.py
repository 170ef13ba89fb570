"""Take the pictures of the page that stand in the documents: python tools/page_pictures.py [FOLDER].

On rendered parts, in the system's chromium: mark a scratch, find, reject a false find, find again, take the results
away. Needs the extras [page] and [browser].
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import label

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from playwright.sync_api import sync_playwright  # noqa: E402

from anomalib_sofs.data.surfaces import render  # noqa: E402
from tests.browser.conftest import ARGUMENTS, CHROMIUM, Server, Window  # noqa: E402

SIZE = (480, 640)
PARTS = {f"part_{seed:02}.png": "scratch" if seed % 3 else None for seed in range(2, 11)}
FIRST = "part_02.png"
VIEW = {"width": 1280, "height": 800}
Points = list[tuple[int, int]]


def render_parts(folder: Path) -> dict[str, np.ndarray]:
    """Render parts, two thirds of them scratched, and return where."""
    folder.mkdir()
    truth = {}
    for name, defect in PARTS.items():
        image, mask = render("ground_steel", defect, style=5, seed=int(name[5:-4]), size=SIZE)
        Image.fromarray(image).save(folder / name)
        truth[name] = mask > 0
    return truth


def strokes(mask: np.ndarray) -> list[Points]:
    """Return a stroke along each scratch."""
    regions, count = label(mask, np.ones((3, 3)))
    found = []
    for number in range(1, count + 1):
        ys, xs = np.nonzero(regions == number)
        along = xs if np.ptp(xs) > np.ptp(ys) else ys
        order = np.argsort(along, kind="stable")[np.linspace(0, len(xs) - 1, 16).round().astype(int)]
        found.append([(int(xs[i]), int(ys[i])) for i in order])
    return found


def false_find(window: Window) -> str:
    """Return the surest good part on which something was found."""
    found = [item.split("\n") for item in window.page.locator(".sofs-item").all_inner_texts()]
    return next(name for name, said, *_ in found if PARTS[name] is None and said.startswith("found"))


def main(folder: Path) -> None:
    """Go through the loop and save five pictures."""
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        images = Path(scratch) / "parts"
        truth = render_parts(images)
        server = Server(images, Path(scratch) / "parts_support")
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        try:
            window = Window(browser, server.address)
            page = window.page
            page.set_viewport_size(VIEW)

            def shoot(name: str) -> None:
                window.settle()
                page.mouse.move(5, 5)
                path = folder / f"page_{name}.png"
                page.screenshot(path=path)
                Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)

            page.click(f".sofs-item:has-text('{FIRST}')")
            page.fill(".sofs-class", "scratch")
            page.click("[data-tool=brush]")
            window.settle()
            for stroke in strokes(truth[FIRST]):
                window.drag(stroke)
            shoot("1_mark")
            page.click("[data-tool=look]")
            window.find()
            page.click(f".sofs-item:has-text('{false_find(window)}')")
            page.wait_for_selector(".sofs-regions .sofs-item")
            shoot("2_find")
            page.click(".sofs-regions .sofs-item >> nth=0")
            shoot("3_correct")
            page.click(".sofs-reject")
            window.settle()
            window.find()
            shoot("4_find_again")
            page.click("#sofs-take")
            page.wait_for_selector("#sofs-taken a")
            shoot("5_take_away")
        finally:
            browser.close()
            server.kill()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY / "docs/images")
