"""The loop without a browser: what is decided is on disk, what is found follows from it, a new session goes on."""

import re
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from anomalib_sofs import SofsInferencer
from anomalib_sofs.model import SupportSet
from anomalib_sofs.page.decisions import StaleError
from anomalib_sofs.page.finds import Find, level_of, logit_of, probability_of, step_of
from anomalib_sofs.page.finds import opened as opened_levels
from anomalib_sofs.page.report import report
from anomalib_sofs.page.session import Session
from anomalib_sofs.page.take_away import result_of, write_bundle
from anomalib_sofs.results.labelling import label

from .helpers_model import default_model, marked, surface

SCRATCH = {"tool": "brush", "points": [[40, 42], [79, 42]], "width": 5}


def picture(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)).save(path)


def scratched(seed, column):
    image = surface(120, 140, seed)
    image[:, 40:44, column : column + 40] = 0.15
    return image


@pytest.fixture
def folder(tmp_path):
    """Four parts: a dark spot, another one, a pale scratch, nothing."""
    picture(tmp_path / "images/line/a.png", marked(120, 140, (50, 60, 57, 66), seed=1)[0])
    picture(tmp_path / "images/line/b.png", marked(120, 140, (90, 20, 97, 26), seed=2)[0])
    picture(tmp_path / "images/c.png", surface(120, 140, 3))
    picture(tmp_path / "images/s.png", scratched(8, 60))
    return tmp_path


def opened(folder, **options):
    return Session(folder / "images", folder / "support", model=default_model(), **options)


def stroke(left, top, right, bottom, tool="rectangle"):
    return {"tool": tool, "points": [[left, top], [right, bottom]]}


def mark_spot(session):
    session.paint("line/a.png", stroke(60, 50, 65, 56), "pit")


def files(folder):
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and ".page" not in path.parts
    )


# -- decisions on disk ---------------------------------------------------------------------------------------------


def test_marks_are_a_support_folder_as_soon_as_they_are_painted(folder):
    session = opened(folder)
    mark_spot(session)
    session.paint("line/b.png", SCRATCH, "scratch")
    session.paint("line/b.png", stroke(20, 90, 25, 96), "pit")
    session.close()
    assert files(folder / "support") == [
        "classes.txt", "image/line__a.png", "image/line__b.png", "mask/line__a_mask.png", "mask/line__b_mask.png",
    ]  # fmt: skip
    assert (folder / "support/classes.txt").read_text() == "pit\nscratch\n"
    read = SupportSet.from_folder(folder / "support")
    assert [(Path(path).name, label) for path, label in zip(read.paths, read.labels, strict=True)] == [
        ("line__a.png", "pit"), ("line__b.png", "pit"), ("line__b.png", "scratch"),
    ]  # fmt: skip
    assert [int(mask.sum()) for mask in read.masks[:2]] == [42, 42]
    assert bool(read.masks[2][40:45, 40:80].all())
    assert int(read.masks[2].sum()) in range(200, 225)  # round ends


def test_the_eraser_takes_marks_away_and_an_image_without_marks_leaves_the_support(folder):
    session = opened(folder)
    mark_spot(session)
    session.paint("line/a.png", {"tool": "eraser", "points": [[60, 53], [62, 53]], "width": 20}, "pit")
    session.close()
    assert files(folder / "support") == ["classes.txt"]


def test_a_decision_is_taken_back(folder):
    session = opened(folder)
    mark_spot(session)
    session.paint("line/a.png", stroke(0, 0, 9, 9), "pit")
    assert session.undo("line/a.png")
    assert int(session.decision("line/a.png").marks.sum()) == 42
    assert session.undo("line/a.png")
    assert not session.undo("line/a.png")
    assert files(folder / "support") == ["classes.txt"]
    session.close()


def test_who_has_not_seen_the_last_change_overwrites_nothing(folder):
    session = opened(folder)
    seen = session.revision("line/a.png")
    session.paint("line/a.png", stroke(60, 50, 65, 56), "pit", seen)
    with pytest.raises(StaleError, match=r"a\.png was changed meanwhile, in another window"):
        session.paint("line/a.png", stroke(0, 0, 50, 50), "pit", seen)
    assert int((session.decision("line/a.png").marks > 0).sum()) == 42
    session.paint("line/b.png", SCRATCH, "pit", session.revision("line/b.png"))  # another image is no matter of theirs
    session.close()


def test_a_mark_grows_from_a_click_as_far_as_the_colour_reaches(folder):
    session = opened(folder)
    session.paint("line/a.png", {"tool": "grow", "points": [[63.4, 53.2]], "tolerance": 40}, "pit")
    found = session.decision("line/a.png").marks > 0
    truth = np.zeros_like(found)
    truth[50:57, 60:66] = True
    assert (found & truth).sum() / (found | truth).sum() > 0.9
    session.close()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"tool": "spray", "points": [[1, 1]]}, "There is no tool 'spray'"),
        ({"tool": "brush", "points": [], "width": 3}, "A stroke has 1 to 20000 points"),
        ({"tool": "brush", "points": [[1, 1]], "width": 1e9}, "is 1 to 2000 pixels wide"),
        ({"tool": "rectangle", "points": [[1, 1]]}, "A rectangle has two corners"),
        (
            {"tool": "grow", "points": [[900, 1]], "tolerance": 10},
            "An area grows from a pixel of the image (140 x 120)",
        ),
        ({"points": [[1, 1]]}, "This stroke cannot be drawn: KeyError('tool')"),
        (stroke(0, 0, 139, 119), "The whole image would be marked"),
    ],
)
def test_what_cannot_be_painted_changes_nothing(folder, what, message):
    session = opened(folder)
    with pytest.raises(ValueError, match=re.escape(message)):
        session.paint("line/a.png", what, "pit")
    assert session.summary("line/a.png")["marked"] == []
    session.close()


@pytest.mark.parametrize("name", ["", "good", "OK", "a\nb", "x" * 61])
def test_a_class_needs_a_name(folder, name):
    session = opened(folder)
    with pytest.raises(ValueError, match="cannot be the name of a class"):
        session.paint("line/a.png", stroke(60, 50, 65, 56), name)
    session.close()


def test_a_support_folder_of_black_and_white_masks_goes_on(folder):
    spot, mask = marked(120, 140, (50, 60, 57, 66), seed=9)
    picture(folder / "support/image/part.png", spot)
    (folder / "support/mask").mkdir()
    Image.fromarray(mask.numpy().astype(np.uint8) * 255).save(folder / "support/mask/part.png")
    before = SupportSet.from_folder(folder / "support")
    session = opened(folder)
    session.paint("line/b.png", SCRATCH, "scratch")
    session.close()
    read = SupportSet.from_folder(folder / "support")
    assert read.classes == ["defect", "scratch"]
    kept = [mask for path, mask in zip(read.paths, read.masks, strict=True) if path.endswith("/part.png")]
    assert torch.equal(kept[0], before.masks[0])


def test_marks_in_another_form_are_refused_and_left_as_they_are(folder):
    (folder / "support/test/pit").mkdir(parents=True)
    (folder / "support/ground_truth/pit").mkdir(parents=True)
    picture(folder / "support/test/pit/0.png", surface(60, 60))
    Image.fromarray(np.eye(60, dtype=np.uint8) * 255).save(folder / "support/ground_truth/pit/0_mask.png")
    with pytest.raises(ValueError, match=r"holds marks in another form .* Name an empty folder with --support"):
        opened(folder)
    assert files(folder / "support") == ["ground_truth/pit/0_mask.png", "test/pit/0.png"]


def test_what_a_killed_process_left_half_done_is_put_aside(folder):
    session = opened(folder)
    mark_spot(session)
    session.close()
    picture(folder / "support/image/orphan.png", surface(60, 60))
    session = opened(folder)
    assert "orphan.png has no mask: it was put aside" in session.decisions.notices[0]
    assert SupportSet.from_folder(folder / "support").classes == ["pit"]
    session.close()


def test_an_image_of_the_same_name_elsewhere_keeps_its_marks(folder):
    spot, mask = marked(120, 140, (50, 60, 57, 66), seed=9)
    picture(folder / "support/image/c.png", spot)
    (folder / "support/mask").mkdir()
    Image.fromarray(mask.numpy().astype(np.uint8) * 255).save(folder / "support/mask/c.png")
    for _ in range(2):
        session = opened(folder)
        session.paint("c.png", stroke(0, 0, 3, 3), "defect")
        session.close()
    assert files(folder / "support")[1:3] == ["image/c-2.png", "image/c.png"]
    assert [int(mask.sum()) for mask in SupportSet.from_folder(folder / "support").masks] == [42, 16]


def test_two_pages_do_not_share_a_support_folder(folder):
    session = opened(folder)
    with pytest.raises(OSError, match="Another page works on"):
        opened(folder)
    session.close()


# -- finding and correcting ----------------------------------------------------------------------------------------


def test_without_a_mark_there_is_nothing_to_search_for(folder):
    session = opened(folder)
    with pytest.raises(ValueError, match="Nothing is marked yet"):
        session.start()
    session.close()


def test_find_reject_find_again_and_a_new_session_goes_on(folder):
    session = opened(folder)
    mark_spot(session)
    session.start()
    session.wait()
    assert (session.search.done, session.search.total) == (4, 4)
    scratch = session.region("s.png", 75, 42)
    assert session.region("line/b.png", 22, 93) is not None
    assert scratch is not None
    assert scratch.box[2] > 3 * scratch.box[3]
    session.reject("s.png", scratch)
    session.start()
    session.wait()
    assert session.region("line/b.png", 22, 93) is not None
    assert session.region("s.png", 75, 42) is None
    found = session.find("line/b.png")
    session.set_step(step_of(0.9))
    session.close()

    assert files(folder / "support/not") == ["image/s.png", "mask/s_mask.png"]
    again = opened(folder)
    assert np.array_equal(again.find("line/b.png").levels, found.levels)
    assert again.settings.step == step_of(0.9)
    before = again.search.changes
    again.start()  # nothing was decided since: nothing is searched again
    again.wait()
    assert again.search.done == 4
    assert again.search.changes - before < 6
    again.close()


def test_what_is_kept_differs_by_little_from_what_is_computed(folder):
    session = opened(folder)
    mark_spot(session)
    session.start()
    session.wait()
    support = SupportSet.from_folder(folder / "support")
    plain = default_model()
    with torch.no_grad():
        image = plain.normalise(SupportSet.from_folder(folder / "support").images[0])[None]
        logits = plain.logits(image, plain.encode(support))[0]
    kept = torch.from_numpy(logit_of(session.find("line/a.png").levels))
    assert float((kept - logits.clamp(-4, 12)).abs().max()) < 0.01
    session.close()


def test_rejecting_changes_only_what_is_made_of_the_networks_opinions(folder, monkeypatch):
    session = opened(folder)
    mark_spot(session)
    session.start()
    session.wait()
    calls, head = [], session.search.engine.model.head
    decide = head.decide
    monkeypatch.setattr(head, "decide", lambda *maps: calls.append(1) or decide(*maps))
    session.reject("s.png", session.region("s.png", 75, 42))
    session.start()
    session.wait()
    assert len(calls) == 3  # the marked image upright and turned, and the rejected region; no query
    session.paint("c.png", stroke(0, 0, 5, 5), "pit")
    session.start()
    session.wait()
    assert len(calls) > 4 + 4
    session.close()


def test_a_found_region_becomes_a_mark_and_a_whole_image_good(folder):
    session = opened(folder)
    mark_spot(session)
    session.start()
    session.wait()
    session.accept("line/b.png", session.region("line/b.png", 22, 93), "pit")
    with pytest.raises(ValueError, match="This region is marked as a defect"):
        session.reject("line/b.png", session.region("line/b.png", 22, 93))
    with pytest.raises(ValueError, match="Something is marked on this image"):
        session.call_good("line/b.png")
    session.call_good("c.png")
    assert session.summary("c.png")["good"]
    session.close()
    read = SupportSet.from_folder(folder / "support")
    assert [Path(path).name for path in read.paths][:3] == ["line__a.png", "line__b.png", "c.png"]
    assert not read.masks[2].any()


def test_good_parts_tell_the_threshold(folder):
    for number in range(3):
        picture(folder / f"good/{number}.png", scratched(20 + number, 30))
    session = opened(folder, good=folder / "good")
    mark_spot(session)
    with pytest.raises(KeyError):
        session.set_good("/etc")
    session.set_good(str(folder / "good"), 0.25)
    session.start()
    session.wait()
    limit = session.settings.limits["pit"]
    good = session.finds.about(session.stem("s.png"))
    assert session.settings.step == step_of(0.5)  # the stricter of the two counts
    assert limit > 1

    def steps(peak, step):
        return session.steps(good._replace(peaks=[peak * 256]), step)

    assert steps(limit - 1, 1) == [limit]
    assert steps(limit, 1) == [1]  # beyond the limit, the threshold counts
    assert steps(limit, limit + 5) == [limit + 5]
    session.set_good(None)
    assert steps(limit, 1) == [1]
    session.close()


def test_defects_count_in_the_region_of_interest_and_from_the_least_area_on_and_this_is_remembered(folder):
    lower = Image.new("L", (140, 120))
    lower.paste(255, (0, 60, 140, 120))
    lower.save(folder / "lower.png")
    session = opened(folder)
    mark_spot(session)
    session.start()
    session.wait()
    assert {name for name in session.images.names if session.summary(name)["found"]} >= {"line/b.png", "s.png"}
    session.close()
    session = opened(folder, roi=folder / "lower.png", least_area=10)
    assert session.unsearched
    session.start()
    session.wait()
    assert [name for name in session.images.names if session.summary(name)["found"]] == ["line/b.png"]
    area = int(session.regions("line/b.png")[0].mask.sum())
    assert result_of(session, "line/b.png", session.find("line/b.png")).support["least_area"] == 10
    assert "<td>lower.png</td>" in report(session)
    session.close()
    again = opened(folder)
    assert again.restrictions == {"roi": str(folder / "lower.png"), "least_area": 10}
    assert not again.unsearched
    again.close()
    session = opened(folder, roi=Path("none"), least_area=area + 1)
    session.start()
    session.wait()
    assert session.restrictions == {"least_area": area + 1}
    assert all(int(region.mask.sum()) > area for name in session.images.names for region in session.regions(name))
    session.close()


def test_a_look_at_all_images_reads_no_file_twice(folder, monkeypatch):
    """The browser asks twice a second, as long as a search runs."""
    for number in range(2):
        picture(folder / f"good/{number}.png", surface(120, 140, 20 + number))
    session = opened(folder, good=folder / "good")
    session.set_good(str(folder / "good"))
    mark_spot(session)
    for name in session.images.names:
        session.finds.write(session.stem(name), Find(np.zeros((1, 120, 140), np.uint16), ["pit"], "x"))
    read, listed = [], []
    decision, walk, open_image = session.decisions.read, Path.rglob, Image.open

    def spy(seen, call):
        return lambda first, *rest, **more: (seen.append(Path(first).name), call(first, *rest, **more))[1]

    monkeypatch.setattr(session.decisions, "read", spy(read, decision))
    monkeypatch.setattr(Image, "open", spy(read, open_image))
    monkeypatch.setattr(Path, "rglob", spy(listed, walk))

    def look():
        read.clear(), listed.clear()
        return [session.summary(name) for name in session.images.names], session.unsearched

    first = look()
    assert {"line__a", "c", "c.png"} <= set(read)
    assert look() == first
    assert read == listed == []
    session.call_good("c.png")
    after, _ = look()
    assert {said["name"] for said in after if said["good"]} == {"c.png"}
    assert {name for name in read if not name.endswith(".png")} == {"c"}
    picture(folder / "good/3.png", surface(120, 140, 23))
    look()
    assert listed == ["good"]
    session.close()


def test_a_search_that_was_stopped_goes_on_where_it_was(folder, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # one image at a time
    session = opened(folder)
    mark_spot(session)
    engine, searched = session.search.engine, []
    logits = engine.logits

    def one(file, encoding):
        searched.append(file.name)
        if len(searched) == 2:
            threading.Thread(target=session.stop).start()
            assert session.search._stopped.wait(20)
        return logits(file, encoding)

    monkeypatch.setattr(engine, "logits", one)
    session.start()
    session.wait()
    assert len(searched) == session.search.done == 2
    assert sum(session.summary(name)["score"] is not None for name in session.images.names) == 2
    session.start()
    session.wait()
    assert sorted(searched) == ["a.png", "b.png", "c.png", "s.png"]
    assert session.search.done == 4
    session.close()


@pytest.mark.slow
def test_a_bundle_of_the_page_finds_where_defects_count_and_from_the_least_area_on(folder):
    lower = Image.new("L", (140, 120))
    lower.paste(255, (0, 60, 140, 120))
    lower.save(folder / "lower.png")
    session = Session(folder / "images", folder / "support", roi=folder / "lower.png", least_area=10)
    mark_spot(session)
    session.start()
    session.wait()
    bundle = SofsInferencer(write_bundle(session))
    found = {}
    for name in session.images.names:
        result = result_of(session, name, session.find(name))
        classes = bundle.predict(session.images.file(name)).pred_mask
        assert ((classes > 0) != (result.classes > 0)).mean() < 0.002
        found[name] = [int(region) for region in np.bincount(label(classes > 0).ravel())[1:]]
        assert not classes[:60].any()
    session.close()
    assert [name for name, regions in found.items() if regions] == ["line/b.png"]
    assert all(min(regions) >= 10 for regions in found.values() if regions)


def test_a_region_of_interest_that_does_not_fit_ends_the_start_and_frees_the_folder(folder):
    Image.new("L", (10, 10), 255).save(folder / "small.png")
    with pytest.raises(ValueError, match=r"small\.png is 10 x 10 pixels, .*\.png 140 x 120"):
        opened(folder, roi=folder / "small.png")
    session = opened(folder)  # it was not remembered
    assert session.restrictions == {}
    session.close()


@given(arrays(np.uint16, (2, 9, 11), elements=st.sampled_from([0, 300, 520, 5000, 5100])), st.integers(1, 12))
def test_no_threshold_leaves_a_region_of_less_than_the_least_area(levels, least_area):
    lowered = opened_levels(levels, least_area)
    assert (lowered <= levels).all()
    for step in (1, 2, 3, 19, 20):
        for before, after in zip(levels >= step * 256, lowered >= step * 256, strict=True):
            numbers = label(before)
            sizes = np.bincount(numbers.ravel())
            assert np.array_equal(after, before & (sizes[numbers] >= least_area))


# -- thresholds ----------------------------------------------------------------------------------------------------


def test_levels_round_down_and_thresholds_up():
    assert level_of(np.array([-9.0, 0.0, -0.001, 40.0])).tolist() == [0, 16384, 16379, 65535]
    assert step_of(0.5) == 64
    assert probability_of(64) == 0.5
    assert step_of(0.51) == 65
    assert probability_of(step_of(0.9)) > 0.9


def test_how_far_images_are_from_good_parts_is_kept_on_disk_and_good_parts_are_contrast(folder):
    for number in range(4):
        picture(folder / f"good/{number}.png", scratched(20 + number, 30))
    session = opened(folder, good=folder / "good")
    mark_spot(session)
    session.start()
    session.wait()
    plain = session.find("s.png")
    session.set_good(str(folder / "good"), 0.25)
    assert session.unsearched  # what was found so far knows nothing of good parts
    session.start()
    session.wait()
    found, kept = session.find("s.png"), list((session.own / "features").rglob("deviations/*/*.safetensors"))
    images = len(session.images.names)
    assert len(kept) == images + 4  # each of the good parts once, by the half that it does not belong to
    times = {file: file.stat().st_mtime_ns for file in kept}
    session.close()
    session = opened(folder, good=folder / "good")
    session.paint("c.png", stroke(0, 0, 5, 5), "pit")  # other marks, the same good parts
    session.start()
    session.wait()
    kept = list((session.own / "features").rglob("deviations/*/*.safetensors"))
    assert {file: file.stat().st_mtime_ns for file in kept} == times
    picture(folder / "good/4.png", scratched(24, 30))
    assert session.unsearched
    assert (found.levels == 0).mean() > (plain.levels == 0).mean()
    session.close()
