"""Thresholds that good images tell: conformal quantiles, per class, kept with the support set."""

import json
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from anomalib_sofs import Sofs
from anomalib_sofs.model import SofsModel
from anomalib_sofs.model.false_alarms import (
    GoodImages,
    check_one_category,
    conformal_quantile,
    conformal_rank,
    learn_limits,
    told_by,
)
from anomalib_sofs.model.probabilities import probabilities

from .helpers_model import backbone, default_model, marked, paper_model, support
from .helpers_scripts import run

DARK = marked(120, 140, (50, 60, 57, 66), seed=1)
PALE = marked(120, 140, (20, 30, 27, 36), seed=3, value=0.9)
SPECKS = [marked(100, 110, (40, 20 + i, 45, 24 + i), seed=9 + i, value=0.1 * i)[0] for i in range(3)]
"""Images that show something like the dark patch, and were called good."""


def read_result(folder, name):
    """What the results say about an image."""
    (file,) = (file for file in folder.rglob(f"{name}.json") if "labelme" not in file.parts)
    return json.loads(file.read_text())


def limited(model, examples, good):
    """The encoding of a support set with the thresholds that good images tell."""
    encoding = model.encode(examples)
    learn_limits(model, [encoding], good)
    return encoding


# -- the quantile --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "rate", "rank"),
    [(19, 0.05, 19), (18, 0.05, 19), (39, 0.05, 38), (100, 0.05, 96), (9, 0.1, 9), (16, 0.05, 17), (1, 0.5, 1)],
)
def test_the_rank_of_the_threshold_among_the_scores(count, rate, rank):
    assert conformal_rank(count, rate) == rank  # ceil((N + 1)(1 - a)), and nothing more by rounding


def test_the_quantile_is_one_of_the_scores_and_the_largest_where_they_are_too_few():
    scores = torch.arange(39.0).flip(0)[:, None] * torch.tensor([1.0, -2.0])  # 0 .. 38 and -76 .. 0
    assert conformal_quantile(scores, 0.05).tolist() == [37, -2]
    assert conformal_quantile(scores, 0.5).tolist() == [19, -38]
    assert conformal_quantile(scores[:5], 0.05).tolist() == [38, -68]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(1, 99))
def test_no_more_than_the_promised_share_of_the_images_exceeds_the_threshold(scores, percent):
    values = torch.tensor(scores, dtype=torch.float)
    exceeding = int((values > conformal_quantile(values, percent / 100)).sum())
    assert 100 * exceeding <= percent * (len(scores) + 1)


def test_too_few_images_are_said_with_what_they_can_promise(caplog):
    model = default_model()
    limited(model, support(DARK), GoodImages(SPECKS, 0.05))
    assert (
        "3 good image(s) can promise a false alarm on one of 4 good parts (25.0 %) at best, not 5 %: the threshold is "
        "their largest score. 19 good images are enough for that."
    ) in caplog.text


# -- segmentation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [default_model, paper_model])
def test_good_images_have_no_region_on_their_own_threshold(make):
    model = make()
    examples = support(DARK, PALE, labels=["dark", "pale"])
    plain, strict = model.encode(examples), limited(model, examples, GoodImages(SPECKS))
    found = [[model.predict(model.normalise(x)[None], e) for x in SPECKS] for e in (plain, strict)]
    highest = [torch.cat([prediction.maps.amax((2, 3)) for prediction in part]) for part in found]
    assert bool((highest[1] <= 0.5).all())
    limits = torch.tensor(list(strict.record["limits"].values()))
    for k, limit in enumerate(limits):  # each class by itself, the largest of three scores
        assert float(highest[0][:, k].max()) == pytest.approx(float(limit), abs=1e-5)
        assert float(highest[1][:, k].max()) == pytest.approx(min(float(limit), 0.5), abs=1e-5)
    assert torch.cat([prediction.score for prediction in found[1]]).tolist() == highest[1].amax(1).tolist()


def test_the_marked_defect_is_found_above_the_threshold():
    model = default_model()
    strict = limited(model, support(DARK), GoodImages([PALE[0], SPECKS[2]]))
    found = model.predict(model.normalise(DARK[0])[None], strict).maps[0, 0] > 0.5
    assert float((found & (DARK[1] > 0)).sum() / ((DARK[1] > 0) | found).sum()) > 0.5


@pytest.mark.parametrize("threshold", [0.01, 0.5, 0.99999])
def test_the_stricter_of_the_threshold_and_the_good_images_counts(threshold):
    model = default_model()
    image = model.normalise(DARK[0])[None]
    logit = float(model.alarms(image, model.encode(support(DARK))))
    for good in (SPECKS[0], PALE[0]):
        strict = SofsModel(backbone(), model.head, threshold=threshold).eval()
        strict.head_trained.fill_(value=True)
        encoding = limited(strict, support(DARK), GoodImages([good]))
        limit = max(float(encoding.limits), strict.threshold_logit)
        end = strict.threshold_logit if logit > limit else limit
        assert float(strict.predict(image, encoding).score) == pytest.approx(
            float(torch.tensor(logit - end).sigmoid()), abs=1e-5
        )


LOGITS = torch.tensor([[[[5.0, 3.0, 1.0, -1.0]]], [[[3.9, 3.0, 1.0, -1.0]]]])  # two images, (2, 1, 1, 4)


@pytest.mark.parametrize(
    ("threshold", "limits", "least_area", "found"),
    [
        (0, None, 1, [3, 3]),
        (2, None, 1, [2, 2]),
        (0, 4, 1, [3, 0]),  # an image that exceeds the limit shows all that it would without, another is good
        (2.5, 4, 1, [2, 0]),
        (3.5, 4, 1, [1, 0]),
        (4.5, 4, 1, [1, 0]),
        (0, -2, 1, [3, 3]),  # surer of good images than of anything: the threshold is the stricter one
        (-4, -2, 1, [4, 4]),  # unless it is lower
        (0, 4, 2, [0, 0]),  # one pixel exceeds the limit, but no region of two
        (0, 2.5, 2, [3, 3]),
    ],
)
def test_only_an_image_that_exceeds_the_limit_shows_what_exceeds_the_threshold(threshold, limits, least_area, found):
    told = None if limits is None else torch.tensor([float(limits)])
    maps = probabilities(LOGITS, threshold, told, least_area)
    assert (maps > 0.5).sum((1, 2, 3)).tolist() == found
    arrays = probabilities(LOGITS.numpy(), threshold, None if told is None else told.numpy(), least_area)
    assert arrays == pytest.approx(maps.numpy(), abs=1e-6)


def test_a_checkpoint_carries_the_thresholds(tmp_path):
    model = Sofs().eval()
    good = GoodImages(SPECKS, 0.2)
    model.set_support(support(DARK), good)
    torch.save(model.state_dict(), tmp_path / "state.pt")
    other = Sofs().eval()
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert other.model.support.record["limits"] == model.model.support.record["limits"]
    assert other.model.support.limits.tolist() == model.model.support.limits.tolist()
    assert told_by(good, other.model.support)
    assert not told_by(GoodImages(SPECKS, 0.1), other.model.support)
    image = SPECKS[0][None]
    assert torch.equal(other(image).anomaly_map, model(image).anomaly_map)
    assert float(other(image).pred_score) <= 0.5


# -- anomaly detection ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [default_model, paper_model])
def test_good_images_are_neither_defective_nor_show_a_region_in_anomaly_detection(make):
    model = make()
    normal = support((PALE[0], torch.zeros(120, 140)))
    encoding = limited(model, normal, GoodImages(SPECKS))
    assert list(encoding.record["limits"]) == ["pixel_limit", "score_limit"]
    found = [model.predict(model.normalise(image)[None], encoding) for image in SPECKS]
    assert max(float(prediction.score) for prediction in found) == 0.5
    assert max(float(prediction.maps.max()) for prediction in found) == 0.5


def test_the_adaptive_threshold_of_anomalib_does_not_count_then():
    model = Sofs()
    normal = support((PALE[0], torch.zeros(120, 140)))
    model.set_support(normal)
    assert model.post_processor.enable_normalization
    model.set_support(normal, GoodImages(SPECKS))
    assert not model.post_processor.enable_normalization


# -- what is given ---------------------------------------------------------------------------------------------------


def test_wrong_requests_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(f"No image in {tmp_path}")):
        Sofs(good=tmp_path)
    with pytest.raises(ValueError, match=r"false_alarms=0\.1 needs good images that tell the threshold: add good=FOLD"):
        Sofs(false_alarms=0.1)
    with pytest.raises(ValueError, match="need at least one good image"):
        GoodImages([])
    with pytest.raises(ValueError, match="the test has 2: bolt, nut"):
        check_one_category(["nut/dent", "bolt/dent", "nut/pit"])
    (tmp_path / "torn.png").write_bytes(b"\x89PNG")
    model = Sofs(good=tmp_path)
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / "torn.png"))):
        model.set_support(support(DARK))


def test_a_good_image_that_is_a_support_image_is_named(tmp_path, caplog):
    Image.fromarray((DARK[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)).save(tmp_path / "part.png")
    examples = support(DARK)
    examples.paths = [str(tmp_path / "part.png")]
    model = default_model()
    limited(model, examples, GoodImages.from_folder(tmp_path))
    assert f"{tmp_path / 'part.png'} is a support image and one of the good images" in caplog.text


def test_find_takes_good_images_regions_of_interest_and_a_least_area(support_folder, tmp_path):
    """Two parts with a crack each, called good: nothing is found on either, which was on both."""
    good = support_folder / "images"
    for file in good.iterdir():
        with Image.open(file) as image:
            mask = np.full((image.height, image.width), 255, np.uint8)
        mask[:9] = 0
        (tmp_path / "roi").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "roi" / f"{file.stem}_mask.png")
    run(
        "anomalib-sofs", "find", support_folder / "support", good, "--out", tmp_path / "out", "--good", good,
        "--false_alarms", "0.4", "--roi", tmp_path / "roi", "--least_area", "4", cwd=tmp_path,
    )  # fmt: skip
    results = [read_result(tmp_path / "out", number) for number in ("0", "1")]
    assert [result["regions"] for result in results] == [[], []]
    assert 0 < max(result["score"] for result in results) <= 0.5
    told = results[0]["support"]
    assert told["good"] == [str(good / "0.png"), str(good / "1.png")]
    assert told["false_alarms"] == 0.4
    assert told["limits"]["defect"] > 0.5
    assert (told["roi"], told["least_area"]) == (str(tmp_path / "roi"), 4)
    (probability,) = (tmp_path / "out").rglob("0_probability.png")
    values = np.asarray(Image.open(probability))
    assert values[:9].max() == 0 < values[9:].max()
