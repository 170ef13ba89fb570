"""The whole loop in a real browser: what is on the screen, and what is in the files."""

import json
import re
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import label

from anomalib_sofs import SofsInferencer
from anomalib_sofs.data.surfaces import render
from anomalib_sofs.model import SupportSet

from .conftest import STRANGE, until

pytestmark = pytest.mark.browser
RED = (230, 30, 30)
ITEM = ".sofs-item:has-text('onerror')"


def longest(mask):
    """Return points along the longest of some scratches, left to right."""
    regions, _ = label(mask, np.ones((3, 3)))
    ys, xs = np.nonzero(regions == np.bincount(regions.ravel())[1:].argmax() + 1)
    order = np.argsort(xs, kind="stable")[np.linspace(0, len(xs) - 1, 12).round().astype(int)]
    return [(int(xs[i]), int(ys[i])) for i in order]


def near(colour, other, distance=60):
    return np.abs(np.subtract(colour, other)).max() <= distance


def test_paint_find_reject_find_again_take_away_restart(parts, scratched, serve, window):  # noqa: PLR0915 - one loop
    server = serve(parts / "images", parts / "support")
    seen = window(server)
    assert seen.status.startswith("Mark a defect on one image")
    assert seen.page.locator(".sofs-item b").all_inner_texts() == [STRANGE, "part_3.png", "part_4.png"]

    # paint
    seen.page.click(ITEM)
    seen.page.fill(".sofs-class", "scratch")
    seen.page.click("[data-tool=brush]")
    points = longest(scratched[STRANGE][1])
    before = seen.colour(*points[6])
    seen.drag(points)
    after = seen.colour(*points[6])
    assert after[0] - after[1] > before[0] - before[1] + 80  # it has become red
    mask = np.asarray(Image.open(parts / f"support/mask/{STRANGE[:-4]}_mask.png"))
    assert mask.shape == (384, 384)
    assert all(mask[y, x] == 1 for x, y in points[1:-1])
    assert (parts / "support/classes.txt").read_text() == "scratch\n"
    seen.wait_for("Marked. Now press Find.")

    # find
    seen.page.click("[data-tool=look]")
    seen.find()
    seen.wait_for("images show a defect")
    seen.page.click(".sofs-item:has-text('part_3.png')")
    seen.page.wait_for_selector(".sofs-regions .sofs-item")
    seen.settle()
    assert "found, " in seen.page.inner_text(".sofs-item:has-text('part_3.png')")
    outline = (np.abs(seen.picture().astype(int) - RED).max(2) < 30).sum()
    assert outline > 30
    areas = [
        int(re.search(r"(\d+) pixels", text).group(1))
        for text in seen.page.locator(".sofs-regions .sofs-item").all_inner_texts()
    ]
    assert areas == sorted(areas, reverse=True)

    # the threshold shows at once what would be found
    seen.page.fill("#sofs-slider input[type=number]", "255")
    seen.page.keyboard.press("Enter")
    seen.wait_for("0 of 3 images show a defect")
    seen.settle()
    assert (np.abs(seen.picture().astype(int) - RED).max(2) < 30).sum() < outline / 2
    seen.wait_for("From a probability of 100.00 % on", "#sofs-threshold")
    seen.page.fill("#sofs-slider input[type=number]", "64")
    seen.page.keyboard.press("Enter")
    seen.wait_for("3 of 3 images show a defect")
    until(lambda: json.loads((parts / "support/.page/settings.json").read_text())["step"] == 64)

    # reject
    seen.page.wait_for_selector(".sofs-regions .sofs-item")
    seen.page.click(".sofs-regions .sofs-item >> nth=0")
    seen.page.click(".sofs-reject")
    seen.wait_for("before your last corrections. Press Find again")
    rejected = np.asarray(Image.open(parts / "support/not/mask/part_3_mask.png")) > 0
    assert rejected.sum() == areas[0]
    assert SupportSet.from_folder(parts / "support").shows_rejected

    # find again
    seen.find()
    seen.wait_for("images show a defect. Click a find")
    y, x = (int(value[len(value) // 2]) for value in np.nonzero(rejected))
    found = seen.page.evaluate("async () => (await fetch('sofs/finds?image=part_3.png&step=64')).json()")
    assert not any(
        left <= x < left + w and top <= y < top + h for left, top, w, h in (region["box"] for region in found)
    )

    # take away
    seen.page.click("#sofs-take")
    seen.page.wait_for_selector("#sofs-taken a", timeout=60_000)
    with seen.page.expect_download() as download:
        seen.page.click("#sofs-taken a:has-text('report')")
    report = download.value.path().read_text()
    assert "&lt;img src=x onerror=alert(1)&gt;.png" in report
    assert not re.search(r"<img src=x|https?://", report)
    coco = json.loads((parts / "support/results/coco.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == [STRANGE, "part_3.png", "part_4.png"]
    assert (parts / "support/results/regions.csv").read_text(encoding="utf-8-sig").startswith("image,class,left,top,")
    with seen.page.expect_download() as download:
        seen.page.click("#sofs-taken a:has-text('support folder')")
    assert download.value.suggested_filename == "support.zip"

    # the bundle finds what the page finds
    seen.page.click("#sofs-bundle")
    seen.page.wait_for_selector("#sofs-taken a:has-text('bundle')", timeout=240_000)
    image = scratched[STRANGE][0]
    classes = SofsInferencer(parts / "support/bundle").predict(image).pred_mask
    with Image.open(parts / f"support/results/{STRANGE[:-4]}_mask.png") as mask:
        page_classes = np.asarray(mask)
    assert (classes > 0).sum() > 100
    assert ((classes > 0) != (page_classes > 0)).mean() < 0.002

    # restart
    server.kill()
    again = window(serve(parts / "images", parts / "support"))
    again.wait_for("images show a defect. Click a find")
    assert "marked: scratch" in again.page.inner_text(ITEM)
    assert "rejected regions" in again.page.inner_text(".sofs-item:has-text('part_3.png')")
    again.page.click(ITEM)
    again.settle()
    assert near(again.colour(*points[6]), after)

    assert seen.errors == again.errors == []
    assert seen.hosts | again.hosts == {f"127.0.0.1:{server.port}", *again.hosts}
    assert all(host.startswith("127.0.0.1:") or host == "" for host in seen.hosts | again.hosts)


def test_decisions_are_made_and_taken_back_where_defects_count(parts, scratched, serve, window):
    support, settings = parts / "support", parts / "support/.page/settings.json"
    lower = np.zeros((384, 384), np.uint8)
    lower[60:] = 255
    Image.fromarray(lower).save(parts / "lower.png")
    seen = window(serve(parts / "images", support, "--roi", parts / "lower.png", "--least_area", "30"))
    item = ".sofs-item:has-text('part_3.png')"
    seen.mark("part_4.png", "scratch", longest(scratched["part_4.png"][1]))
    seen.find()
    seen.page.click(item)
    seen.page.wait_for_selector(".sofs-regions .sofs-item")
    for name in scratched:
        found = seen.page.evaluate(f"async () => (await fetch('sofs/finds?step=64&image={quote(name)}')).json()")
        assert all(region["box"][1] >= 60 and region["area"] >= 30 for region in found)

    # a find becomes a mark, and no mark again; then all of the image is good
    seen.page.click(".sofs-regions .sofs-item >> nth=0")
    seen.page.click(".sofs-accept")
    seen.page.wait_for_selector(f"{item}:has-text('marked: scratch')")
    mask = np.asarray(Image.open(support / "mask/part_3_mask.png"))
    assert (mask == 1).sum() >= 30
    seen.page.click(".sofs-undo")
    until(lambda: not (support / "mask/part_3_mask.png").exists())
    seen.settle()
    seen.page.click(".sofs-good")
    seen.page.wait_for_selector(f"{item}:has-text('called good')")
    assert (support / "good/part_3.png").is_file()
    seen.page.click(".sofs-undo")
    until(lambda: not (support / "good/part_3.png").exists())
    seen.settle()

    # a class has a colour
    seen.page.fill(".sofs-colour", "#1e1ee6")
    until(lambda: json.loads(settings.read_text())["colours"] == {"scratch": "#1e1ee6"})
    seen.page.click(".sofs-item:has-text('part_4.png')")
    seen.settle()
    red, _, blue = seen.colour(*longest(scratched["part_4.png"][1])[6])
    assert blue > red + 40
    assert seen.errors == []


def test_a_folder_of_good_parts_sets_the_threshold(parts, scratched, serve, window):
    images, settings = parts / "images", parts / "support/.page/settings.json"
    (images / "fine").mkdir()
    for seed in range(5):
        good, _ = render("ground_steel", None, style=5, seed=20 + seed, size=(384, 384))
        Image.fromarray(good).save(images / f"fine/good_{seed}.png")
    seen = window(serve(images, parts / "support"))
    seen.mark("part_4.png", "scratch", longest(scratched["part_4.png"][1]))
    seen.find()
    seen.page.fill("#sofs-slider input[type=number]", "1")
    seen.page.keyboard.press("Enter")  # good ones, too
    seen.wait_for("7 of 8 images show a defect")

    seen.page.click("#sofs-good-folder input")
    seen.page.click("[role=option][aria-label=fine]")
    seen.find("#sofs-use-good")
    assert json.loads(settings.read_text())["good"] == "fine"
    assert re.search(r"Good parts say, at least scratch: [\d.]+ %\.", seen.page.inner_text("#sofs-threshold"))
    for seed in range(5):  # however low the slider is
        assert "nothing found" in seen.page.inner_text(f".sofs-item:has-text('good_{seed}.png')")
    assert "found, " in seen.page.inner_text(".sofs-item:has-text('part_3.png')")
    assert seen.errors == []


def test_two_windows_do_not_overwrite_each_other(parts, serve, window):
    server = serve(parts / "images", parts / "support")
    first, second = window(server), window(server)
    for one in (first, second):
        one.page.click(".sofs-item:has-text('part_4.png')")
        one.page.click("[data-tool=rectangle]")
        one.settle()
    # the second one is slow to hear what the first one did
    second.page.evaluate(
        "window.fetchLater = window.fetch; window.fetch = (a, b) => String(a).includes('state?') ? new Promise(() => {}) : fetchLater(a, b)"
    )
    second.page.wait_for_timeout(700)
    first.drag([(20, 20), (29, 29)])
    second.page.mouse.move(*second.screen(100, 100))
    second.page.mouse.down()
    second.page.mouse.move(*second.screen(199, 199))
    second.page.mouse.up()
    second.page.wait_for_selector(".sofs-message:not([hidden])")
    assert "part_4.png was changed meanwhile, in another window" in second.page.inner_text(".sofs-message")
    mask = np.asarray(Image.open(parts / "support/mask/part_4_mask.png"))
    assert int((mask > 0).sum()) == 100


def test_a_large_image_is_painted_at_its_own_resolution(parts, serve, window):
    rng = np.random.default_rng(0)
    large = np.kron(rng.integers(90, 110, (75, 128), np.uint8), np.ones((40, 32), np.uint8))
    large[1500:1512, 2000:2030] = 20
    Image.fromarray(large).save(parts / "images/large.png")
    seen = window(serve(parts / "images", parts / "support"))
    seen.page.click(".sofs-item:has-text('large.png')")
    seen.settle()
    assert seen.page.evaluate("[...window.sofs.tiles.keys()]") == [
        "4/0/0",
        "4/1/0",
        "4/0/1",
        "4/1/1",
    ]  # reduced, not 48 tiles
    seen.page.evaluate("Object.assign(window.sofs, { x: 2015, y: 1506, zoom: 4, fitted: false })")
    seen.page.click("[data-tool=grow]")
    seen.page.wait_for_timeout(500)
    seen.page.mouse.click(*seen.screen(2010, 1505))
    seen.settle()
    mask = np.asarray(Image.open(parts / "support/mask/large_mask.png"))
    assert mask.shape == (3000, 4096)
    truth = np.zeros(mask.shape, bool)
    truth[1500:1512, 2000:2030] = True
    assert (truth & (mask == 1)).sum() / (truth | (mask == 1)).sum() > 0.85
    assert seen.errors == []
