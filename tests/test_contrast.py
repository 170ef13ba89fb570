"""Good images as contrast: what they show, too, is no defect."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anomalib_sofs import Sofs
from anomalib_sofs.arrays import highest_around
from anomalib_sofs.model.contrast import WEIGHT, contrasted
from anomalib_sofs.model.encoding import SupportEncoding
from anomalib_sofs.model.false_alarms import GoodImages, learn_limits
from anomalib_sofs.model.good_parts import LEAST_IMAGES, MOST_IMAGES, UNITS, learn_contrasts

from .helpers_model import default_model, marked, paper_model, support

DARK = marked(120, 140, (50, 60, 57, 66), seed=1)


def good_images(count):
    """Good parts with a dark patch that belongs there, always at the same place."""
    return [marked(120, 140, (90, 20, 97, 26), seed=20 + number)[0] for number in range(count)]


def taught(model, count=LEAST_IMAGES):
    """The encoding of a marked patch, and what good images show beside it."""
    encoding = model.encode(support(DARK))
    learn_limits(model, [encoding], GoodImages(good_images(count), 1 / count))
    return encoding


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_the_highest_value_around_a_cell(height, width, seed):
    x = np.random.default_rng(seed).normal(size=(2, 1, height, width)).astype(np.float32)
    expected = torch.nn.functional.max_pool2d(torch.from_numpy(x), 3, stride=1, padding=1)
    assert np.array_equal(highest_around(x), expected.numpy())
    assert torch.equal(highest_around(torch.from_numpy(x)), expected)


def test_a_logit_is_raised_by_how_far_its_pixel_is_from_normal():
    logits = torch.tensor([[[[0.5, -1.0]], [[2.0, 2.0]]]])  # two classes
    found = contrasted(logits, torch.tensor([[[[-2.0, 3.0]]]]))
    assert found.tolist() == [[[[0.5 - 2 * WEIGHT, -1 + 3 * WEIGHT]], [[2 - 2 * WEIGHT, 2 + 3 * WEIGHT]]]]


def test_what_good_parts_show_at_its_place_is_found_no_more_and_the_marked_defect_is():
    """A good part has a patch like the marked one: without good images it is a false alarm."""
    model = default_model()
    plain, encoding = model.encode(support(DARK)), taught(model, 8)
    part = good_images(9)[8]
    defective = torch.minimum(part, marked(120, 140, (30, 80, 37, 86), seed=28)[0])
    query = model.normalise(defective)[None]
    maps = [model.logits(query, known)[0, 0] for known in (plain, encoding)]
    there, defect = (slice(90, 97), slice(20, 26)), (slice(30, 37), slice(80, 86))
    gap = [float(found[defect].max() - found[there].max()) for found in maps]
    assert gap[0] < 1  # they look alike
    assert gap[1] > gap[0] + 1
    assert float(model.predict(model.normalise(part)[None], encoding).score) <= 0.5


def test_each_half_of_the_described_images_is_compared_with_the_other():
    model = default_model()
    *described, everything = learn_contrasts(model, GoodImages(good_images(5)))
    assert [len(encoding.record["images"]) for encoding in described] == [2, 3, 2, 3, 2]
    assert described[0].record["images"] == ["good image 1", "good image 3"]
    assert len(everything.record["images"]) == 5
    for encoding in described:  # an image that nobody knows is no nearer to a half than to all
        for unit in UNITS:
            assert torch.equal(encoding.encodings[0][unit], everything.encodings[0][unit])


def test_of_many_good_images_some_are_described_and_the_others_compared_with_all_of_these(monkeypatch):
    monkeypatch.setattr("anomalib_sofs.model.good_parts.MOST_IMAGES", 4)
    *described, everything = learn_contrasts(default_model(), GoodImages(good_images(6)))
    names = everything.record["images"]
    assert names == [f"good image {number}" for number in (0, 1, 3, 4)]
    assert [encoding is everything for encoding in described] == [False, False, True, False, False, True]
    assert MOST_IMAGES == 16


@pytest.mark.parametrize(("make", "count"), [(default_model, LEAST_IMAGES - 1), (paper_model, LEAST_IMAGES)])
def test_without_enough_images_or_a_detector_that_sees_them_whole_there_is_no_contrast(make, count):
    assert taught(make(), count).contrast is None


def test_images_that_are_all_the_same_do_not_tell_how_good_parts_vary(caplog):
    model, same = default_model(), good_images(1)[0]
    encoding = model.encode(support(DARK))
    learn_limits(model, [encoding], GoodImages([same] * 6, 0.2))
    assert encoding.contrast is None
    assert encoding.limits is not None
    assert (
        "Of the good images from good image 0 on, 1 differ: they tell thresholds, not how good parts vary."
        in caplog.text
    )


def test_an_image_is_not_compared_with_a_half_that_has_its_twin():
    images = good_images(4)
    *described, everything = learn_contrasts(default_model(), GoodImages([*images, images[1]]))
    assert len(everything.record["images"]) == 4
    assert described[4] is described[1] is not everything


def test_support_sets_share_what_was_described_once():
    model, good = default_model(), GoodImages(good_images(LEAST_IMAGES), 0.25)
    first, second = model.encode(support(DARK)), model.encode(support(DARK))
    for encoding in (first, second):
        learn_limits(model, [encoding], good)
    assert first.contrast is second.contrast
    assert first.limits.tolist() == second.limits.tolist()


def test_what_fails_in_the_middle_changes_nothing(monkeypatch):
    model = default_model()
    encoding = taught(model)
    before, limits = encoding.contrast, encoding.limits
    monkeypatch.setattr(model, "alarms", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        learn_limits(model, [encoding], GoodImages(good_images(5), 0.2))
    assert encoding.contrast is before
    assert torch.equal(encoding.limits, limits)


def test_it_is_loaded_to_where_the_encoding_is():
    source = taught(default_model())
    other = SupportEncoding().to("meta")
    other.load_state_dict(source.state_dict())
    assert other.contrast.encodings[0]["cells_1"].device == other.encodings[0]["marked"].device == torch.device("meta")


def test_a_checkpoint_carries_it_and_an_encoding_without_takes_it_away(tmp_path):
    model = Sofs().eval()
    model.set_support(support(DARK), GoodImages(good_images(LEAST_IMAGES), 0.25))
    torch.save(model.state_dict(), tmp_path / "state.pt")
    other = Sofs().eval()
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert isinstance(other.model.support.contrast, SupportEncoding)
    assert other.model.support.contrast.record == model.model.support.contrast.record
    assert torch.equal(other(DARK[0][None]).anomaly_map, model(DARK[0][None]).anomaly_map)
    plain = copy.deepcopy(model)
    plain.set_support(support(DARK))
    other.load_state_dict(plain.state_dict())
    assert other.model.support.contrast is None
    assert torch.equal(other(DARK[0][None]).anomaly_map, plain(DARK[0][None]).anomaly_map)
