"""Region of interest and least area: they act before the image score, and are kept with the support set."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.morphology import area_opening

from anomalib_sofs import Sofs
from anomalib_sofs.model.false_alarms import GoodImages
from anomalib_sofs.model.least_area import drop_small, highest_level
from anomalib_sofs.model.region_of_interest import RegionOfInterest

from .helpers_model import default_model, marked, paper_model, support

DARK = marked(128, 128, (50, 60, 57, 66), seed=1)
QUERY = marked(128, 160, (80, 30, 87, 36), seed=2)[0]


def mask_file(path, *, size=(128, 160), rows=slice(None), columns=slice(None)):
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros(size, np.uint8)
    mask[rows, columns] = 255
    Image.fromarray(mask).save(path)
    return path


def restricted(model, roi=None, least_area=None, examples=None):
    encoding = model.encode(examples or support(DARK))
    encoding.restrict(None if roi is None else RegionOfInterest.from_path(roi), least_area)
    return encoding


# -- least area ----------------------------------------------------------------------------------------------------

maps = st.lists(st.integers(0, 9), min_size=80, max_size=80).map(
    lambda values: torch.tensor(values, dtype=torch.float).view(1, 1, 8, 10) / 9
)


@given(maps, st.integers(1, 90))
def test_regions_above_the_level_have_the_least_area_and_all_else_stays(values, area):
    kept = drop_small(values, area)[0, 0].numpy()
    before = values[0, 0].numpy()
    above = before > 0.5
    assert not ((kept > 0.5) & ~above).any()
    changed = kept != before
    assert (kept[changed] == 0.5).all()
    assert (above[changed]).all()
    if area > 1:
        opened = area_opening(above.astype(np.uint8), area, connectivity=2) > 0
        np.testing.assert_array_equal(kept > 0.5, opened)


@given(maps, st.integers(1, 90))
def test_the_highest_level_is_the_maximum_of_the_area_opening(values, area):
    values = values.expand(1, 2, 8, 10) * torch.tensor([1.0, -1.0])[:, None, None]
    opened = [area_opening(part.numpy(), area, connectivity=2).max() for part in values[0]]
    if area <= 80:
        assert highest_level(values, area)[0].tolist() == pytest.approx(opened)


def test_a_region_that_is_too_small_is_in_neither_mask_nor_score():
    model = default_model()
    image = model.normalise(QUERY)[None]
    plain = model.predict(image, restricted(model))
    area = int((plain.maps[0, 0] > 0.5).sum())  # one region
    assert area > 10
    same, gone = (model.predict(image, restricted(model, least_area=limit)) for limit in (area, area + 1))
    assert torch.equal(same.maps, plain.maps)
    assert torch.equal(same.score, plain.score)
    assert float(gone.score) == float(gone.maps.max()) == 0.5


# -- region of interest ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [default_model, paper_model])
def test_what_lies_outside_counts_for_nothing(tmp_path, make):
    model = make()
    image = model.normalise(QUERY)[None]
    plain = model.predict(image, restricted(model))
    part = mask_file(tmp_path / "part.png", rows=slice(0, 64))
    inside = model.predict(image, restricted(model, part))
    assert float(inside.maps[..., 64:, :].max()) == 0
    assert float(inside.score) == float(inside.maps.max())
    everything = model.predict(image, restricted(model, mask_file(tmp_path / "all.png")))
    assert torch.equal(everything.maps, plain.maps)
    assert torch.equal(everything.score, plain.score)


def test_a_defect_outside_is_no_evidence_for_one_inside(tmp_path):
    """The good part of the image is judged as if there were nothing else on it."""
    model = default_model()
    image = model.normalise(QUERY)[None]
    inside = model.predict(image, restricted(model, mask_file(tmp_path / "part.png", rows=slice(0, 64))))
    assert float(model.predict(image, restricted(model)).score) > 0.9
    assert float(inside.score) <= 0.5


@pytest.mark.parametrize("make", [default_model, paper_model])
def test_anomalies_outside_do_not_make_a_part_defective(tmp_path, make):
    model = make()
    normal = support(marked(128, 160, (0, 0, 0, 0), seed=5))
    image = model.normalise(QUERY)[None]
    found = model.predict(image, restricted(model, None, examples=normal))
    inside = model.predict(image, restricted(model, mask_file(tmp_path / "a.png", rows=slice(0, 40)), examples=normal))
    assert float(inside.score) < float(found.score)
    assert float(inside.maps[..., 40:, :].max()) == 0
    whole = model.predict(image, restricted(model, mask_file(tmp_path / "b.png"), examples=normal))
    torch.testing.assert_close(whole.score, found.score)
    torch.testing.assert_close(whole.maps, found.maps)
    small = model.predict(image, restricted(model, least_area=128 * 160, examples=normal))
    assert float(small.maps.max()) == 0.5
    assert float(small.score) <= 0.5


def test_masks_by_name_and_what_is_said_where_one_does_not_fit(tmp_path):
    mask_file(tmp_path / "roi/a_mask.png", rows=slice(0, 64))
    mask_file(tmp_path / "roi/b.png", rows=slice(64, 128))
    roi = RegionOfInterest.from_path(tmp_path / "roi")
    assert roi.inside((128, 160), "x/a.jpg").mean(1).tolist() == [1] * 64 + [0] * 64
    assert roi.inside((128, 160), "b.jpg").mean(1).tolist() == [0] * 64 + [1] * 64
    with pytest.raises(ValueError, match=re.escape(f"c.png has no region of interest: expected {tmp_path}/roi/c.png")):
        roi.inside((128, 160), "c.png")
    with pytest.raises(ValueError, match="this image has none"):
        roi.inside((128, 160), None)
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}/roi/a is 160 x 128 pixels, a.jpg 100 x 90. Save")):
        roi.inside((90, 100), "a.jpg")
    with pytest.raises(ValueError, match=r"black\.png marks nothing"):
        RegionOfInterest.from_path(mask_file(tmp_path / "black.png", rows=slice(0, 0)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="No mask in"):
        RegionOfInterest.from_path(tmp_path / "empty")
    with pytest.raises(ValueError, match="roi='nowhere' is not possible: the file or folder nowhere does not exist"):
        Sofs(roi="nowhere")


# -- kept ------------------------------------------------------------------------------------------------------------


def test_a_checkpoint_carries_both_and_what_is_given_later_wins(tmp_path, caplog):
    mask = mask_file(tmp_path / "part.png", rows=slice(0, 64))
    model = Sofs(roi=mask, least_area=5).eval()
    model.set_support(support(DARK), GoodImages([QUERY]))
    torch.save(model.state_dict(), tmp_path / "state.pt")
    mask.unlink()
    other = Sofs(least_area=7).eval()
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert (other.model.support.roi.source, other.model.support.least_area) == (str(mask), 5)
    assert torch.equal(other(QUERY[None]).anomaly_map, model(QUERY[None]).anomaly_map)
    other.prepare_support()
    assert other.model.support.record["least_area"] == 7
    assert "were told by 1 good images with another region of interest or least area" in caplog.text
    with pytest.raises(ValueError, match=r"part\.png is 160 x 128 pixels, the image 128 x 128"):
        other(DARK[0][None])


def test_exports_refuse_what_they_cannot_keep(tmp_path):
    mask = mask_file(tmp_path / "part.png", rows=slice(0, 64))
    model = Sofs(least_area=5).eval()
    model.set_support(support(DARK))
    with pytest.raises(ValueError, match="least_area=5 needs connected regions, which ONNX and OpenVINO have not"):
        model.to_onnx(tmp_path)
    model.least_area, model.roi = 1, RegionOfInterest.from_path(mask)
    with pytest.raises(ValueError, match=r"fits images of 160 x 128 pixels.* --input_size \[128,160\]"):
        model.to_onnx(tmp_path)
    with pytest.raises(ValueError, match=r"is 160 x 128 pixels, the input_size \[64, 64\] 64 x 64"):
        model.to_onnx(tmp_path, input_size=(64, 64))
    mask_file(tmp_path / "roi/part.png")
    model.roi = RegionOfInterest.from_path(tmp_path / "roi")
    with pytest.raises(ValueError, match="an exported model is not told names"):
        model.to_torch(tmp_path)
    assert not list(tmp_path.rglob("*.onnx"))
