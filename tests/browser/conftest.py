"""Tests of the page: they need the extra [page], and most of them chromium. In CI they never skip."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomalib_sofs.data.surfaces import render

STRANGE = "<img src=x onerror=alert(1)>.png"
CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


def missing(reason):
    """Skip and say why; in CI, where everything is to be there, fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason} In CI these tests must run.")
    pytest.skip(reason)


def needed(name, extra):
    try:
        return __import__(name)
    except ImportError:
        return missing(f"{name} is not installed: pip install -e '.[{extra}]'.")


@pytest.fixture(scope="session", autouse=True)
def gradio():
    return needed("gradio", "page")


@pytest.fixture(scope="session")
def browser():
    needed("playwright", "browser")
    if not CHROMIUM.is_file():
        missing(f"There is no {CHROMIUM}: apt-get install chromium, or name another one in CHROMIUM.")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield started
        started.close()


class Server:
    """`anomalib-sofs page`, as users start it."""

    def __init__(self, images, support, *options):
        command = [sys.executable, "-W", "ignore", "-m", "anomalib_sofs.cli", "page", "--port", "0"]
        command += ["--images", images, "--support", support, *options]
        environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        self.said = []
        for line in self.process.stdout:
            self.said.append(line)
            found = re.search(r"The page is at (http://\S+:(\d+))", line)
            if found:
                self.address, self.port = found.group(1), int(found.group(2))
                return
        pytest.fail("the page did not start:\n" + "".join(self.said))

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def serve():
    started = []

    def start(*arguments):
        started.append(Server(*arguments))
        return started[-1]

    yield start
    for server in started:
        server.kill()


class Window:
    """A window of the browser with the page in it."""

    def __init__(self, browser, address):
        self.page = browser.new_page(viewport={"width": 1400, "height": 900})
        self.hosts, self.errors = set(), []
        self.page.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: self.errors.append(f"dialog: {dialog.message}"))
        self.page.goto(address)
        self.page.wait_for_selector(".sofs-item", timeout=60_000)
        self.page.wait_for_function("window.sofs && window.sofs.image && window.sofs.overlays.size")
        self.page.wait_for_timeout(300)

    @property
    def status(self):
        return self.page.inner_text(".sofs-status")

    def wait_for(self, text, selector=".sofs-status", timeout=120_000):
        self.page.wait_for_function(
            "([selector, text]) => document.querySelector(selector).innerText.includes(text)",
            arg=[selector, text],
            timeout=timeout,
        )

    def settle(self):
        """Wait until everything that is on its way has been drawn."""
        self.page.wait_for_function(
            "!window.sofs.busy && !window.sofs.stroke && [...window.sofs.overlays.values()].every((known) => known.canvas)"
        )
        self.page.wait_for_timeout(400)

    def screen(self, x, y):
        """Return where a pixel of the image is on the screen."""
        return self.page.evaluate(
            """([x, y]) => {
                const S = window.sofs, canvas = document.querySelector(".sofs-canvas");
                const box = canvas.getBoundingClientRect(), ratio = window.devicePixelRatio;
                return [box.left + ((x + 0.5 - S.x) * S.zoom + canvas.width / 2) / ratio,
                        box.top + ((y + 0.5 - S.y) * S.zoom + canvas.height / 2) / ratio];
            }""",
            [float(x), float(y)],
        )

    def colour(self, x, y):
        """Return the colour of the canvas at a pixel of the image, from a picture of the screen."""
        return tuple(int(value) for value in self.picture()[tuple(int(v) for v in reversed(self.screen(x, y)))][:3])

    def picture(self):
        import io

        return np.asarray(Image.open(io.BytesIO(self.page.screenshot())).convert("RGB"))

    def drag(self, points):
        self.page.mouse.move(*self.screen(*points[0]))
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*self.screen(*point))
        self.page.mouse.up()
        self.settle()

    def mark(self, image, label, points):
        """Paint over points of an image."""
        self.page.click(f".sofs-item:has-text('{image}')")
        self.page.fill(".sofs-class", label)
        self.page.click("[data-tool=brush]")
        self.drag(points)
        self.page.click("[data-tool=look]")

    def find(self, button="#sofs-find"):
        """Press a button that searches, and wait until the search has ended and is drawn."""
        before = self.page.evaluate("window.sofs.state.ended")
        self.page.click(button)
        # the page asks now and then, and may never see a short search run
        self.page.wait_for_function("(before) => window.sofs.state.ended > before", arg=before, timeout=120_000)
        self.settle()


@pytest.fixture
def window(browser):
    opened = []

    def open_window(server):
        opened.append(Window(browser, server.address))
        return opened[-1]

    yield open_window
    for one in opened:
        one.page.close()


@pytest.fixture(scope="session")
def scratched():
    """Three rendered parts with scratches and where they are; one of them has a name that would be HTML."""
    return {
        name: render("ground_steel", "scratch", style=5, seed=seed, size=(384, 384))
        for name, seed in ((STRANGE, 2), ("part_3.png", 3), ("part_4.png", 4))
    }


@pytest.fixture
def parts(tmp_path, scratched):
    return laid_out(tmp_path, scratched)


def laid_out(folder, scratched):
    (folder / "images").mkdir()
    for name, (image, _) in scratched.items():
        Image.fromarray(image).save(folder / "images" / name)
    return folder


def until(condition, seconds=20):
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)
