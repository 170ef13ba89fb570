"""Rejected regions: in memory, on disk, and what they change."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from anomalib_sofs.model import SupportSet
from anomalib_sofs.model.examples import record_of
from anomalib_sofs.model.relation.rejections import Rejected, level_slopes, rejected_regions
from anomalib_sofs.model.relation.suppression import suppressed

from .helpers_model import default_model, marked, paper_model, support, surface

DARK = marked(120, 140, (50, 60, 57, 66), seed=1)


def scratch(seed, *, column=30):
    """A part with a pale scratch, and where it is."""
    image, region = surface(120, 140, seed), torch.zeros(120, 140)
    image[:, 40:44, column : column + 40] = 0.15
    region[40:44, column : column + 40] = 1
    return image, region


def picture(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)).save(path)


def mask_file(path, mask):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.numpy().astype(np.uint8) * 255).save(path)


# -- the support set -----------------------------------------------------------------------------------------------


def test_examples_and_rejected_regions_are_added_in_memory():
    examples = support(DARK)
    examples.add(*scratch(3), label="scratch", path="line/7.png")
    examples.reject(*scratch(5), path="line/9.png")
    assert examples.classes == ["defect", "scratch"]
    assert examples.paths == ["support image 0", "line/7.png", "line/9.png"]
    assert [int(region.sum()) if region is not None else None for region in examples.rejected] == [None, None, 160]
    assert [int(mask.sum()) for mask in examples.masks] == [42, 160, 0]
    assert record_of(examples)["labels"] == ["defect", "scratch", "not"]
    assert not examples.normal


def test_what_is_marked_on_an_image_is_no_background_where_it_rejects():
    examples = support(DARK)
    region = torch.zeros(120, 140)
    region[80:90, 80:90] = 1
    examples.reject(DARK[0], region)
    assert torch.equal(examples.masks[1], (DARK[1] * 255).to(torch.uint8))


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (torch.zeros(120, 140), "The rejected region of a.png is empty"),
        (torch.ones(12, 14), "The rejected region of a.png is 14 x 12 pixels, its image 140 x 120"),
        (DARK[1], "The rejected region of a.png holds pixels that are marked as defect"),
    ],
)
def test_a_region_that_cannot_be_rejected_leaves_the_set_as_it_was(region, message):
    examples = support(DARK)
    with pytest.raises(ValueError, match=re.escape(message)):
        examples.reject(DARK[0], region, "a.png")
    assert len(examples.images) == len(examples.masks) == len(examples.rejected) == 1


def test_a_folder_not_beside_the_masks_holds_rejected_regions(tmp_path):
    picture(tmp_path / "image/a.png", DARK[0])
    mask_file(tmp_path / "mask/a.png", DARK[1])
    picture(tmp_path / "image/b.png", scratch(3)[0])
    mask_file(tmp_path / "not/b_mask.png", scratch(3)[1])
    mask_file(tmp_path / "not/a.png", torch.roll(DARK[1], 50, 1))
    picture(tmp_path / "good/c.png", scratch(5)[0])
    mask_file(tmp_path / "not/c.png", scratch(5)[1])
    read = SupportSet.from_folder(tmp_path)
    found = [(path.rsplit("/", 1)[1], label) for path, label in zip(read.paths, record_of(read)["labels"], strict=True)]
    assert found[:3] == [("a.png", "defect"), ("b.png", "good"), ("c.png", "good")]
    assert found[3:] == [("a.png", "not"), ("b.png", "not"), ("c.png", "not")]
    assert [int((region > 0).sum()) for region in read.rejected[3:]] == [42, 160, 160]
    assert [sorted(mask.unique().tolist()) for mask in read.masks] == [[0, 1], [0], [0], [0, 255], [0], [0]]


def test_a_rejected_mask_must_fit_an_image(tmp_path):
    picture(tmp_path / "image/a.png", DARK[0])
    mask_file(tmp_path / "mask/a.png", DARK[1])
    mask_file(tmp_path / "not/z.png", DARK[1])
    with pytest.raises(ValueError, match=re.escape(f"The mask {tmp_path}/not/z.png rejects regions of no image.")):
        SupportSet.from_folder(tmp_path)
    (tmp_path / "not/z.png").unlink()
    mask_file(tmp_path / "not/a.png", DARK[1][:50])
    with pytest.raises(ValueError, match=r"not/a\.png is 140 x 50 pixels, its image .* 140 x 120"):
        SupportSet.from_folder(tmp_path)


# -- what it changes -----------------------------------------------------------------------------------------------


def test_what_looks_like_a_rejected_region_is_found_no_more_and_the_defect_still_is():
    model = default_model(160)  # one window each: another cut moves what is found by as much as a level does
    examples = support(DARK)
    query, region = scratch(8, column=60)
    dark = marked(120, 140, (20, 90, 27, 96), seed=7)

    def found(image, where):
        prediction = model.predict(model.normalise(image)[None], model.encode(examples))
        return float((prediction.maps[0, 0] > 0.5)[where > 0].float().mean())

    before = found(query, region)
    assert before > 0.3
    examples.reject(*scratch(5))
    assert found(query, region) < 0.1 * before
    assert found(*dark) > 0.7


def test_what_cannot_weigh_it_says_so(caplog):
    examples = support(DARK)
    examples.reject(*scratch(5))
    paper_model().encode(examples)
    assert "Rejected regions are background like any other here: PaperHead cannot weigh them." in caplog.text


def test_each_connected_region_is_described_by_its_mean_features_and_how_sure_the_head_was():
    grid = torch.zeros(2, 8, 8)
    grid[0, 1, 1], grid[1, 5, 6] = 4.0, 2.0
    mask = torch.zeros(32, 32)
    mask[4:8, 4:8] = mask[20:24, 22:30] = 1  # one cell; a whole one and two halves
    logits = torch.full((2, 32, 32), -3.0)
    logits[0, 5, 5], logits[0, 22, 25], logits[1, 22, 25], logits[0, 0, 0] = 5, 2, 1, 9
    first, second = rejected_regions(grid, logits, mask, torch.tensor([1.0, 10.0]))
    assert torch.allclose(first.features, torch.tensor([4.0, 0]))
    assert first.peaks.tolist() == [5, -3]
    assert torch.allclose(second.features, torch.tensor([0.0, 10]))
    assert second.peaks.tolist() == [2, 1]


def test_a_find_has_to_exceed_the_level_between_defect_and_rejected_region():
    regions = [Rejected(torch.tensor([0.0, 4]), torch.tensor([3.0]))]
    defect = torch.tensor([[4.0, 0]])
    classes = {"rejected": level_slopes(regions, defect), "contrast": defect, "scale": torch.ones(2)}

    def left(peak, features):
        grid = torch.zeros(1, 2, 64, 64)
        grid[0, :, 30:33, 30:33] = torch.tensor(features)[:, None, None]
        grid -= grid.mean((2, 3), keepdim=True) - grid.mean((2, 3), keepdim=True) * 9 / 64**2  # background at 0
        logits = torch.full((1, 1, 128, 128), -20.0)
        logits[..., 60:66, 60:66] = peak
        return float(suppressed(logits, grid, classes)[0, 0, 62, 62])

    assert left(4.0, [0.0, 4]) < 0.05  # the region itself: level 4
    assert left(5.1, [0.0, 4]) == pytest.approx(5.1, abs=0.05)
    assert left(1.0, [2.0, 2]) < 0.05  # halfway: level 1
    assert left(1.5, [2.0, 2]) == pytest.approx(1.5 - 0.5, abs=0.05)
    assert left(2.1, [2.0, 2]) == pytest.approx(2.1, abs=0.05)
    assert left(0.2, [4.0, 0]) == pytest.approx(0.2)  # the defect: no level
    assert left(0.2, [8.0, -1]) == pytest.approx(0.2)  # beyond it


def test_the_looks_of_a_query_are_lowered_each_by_what_it_found():
    torch.manual_seed(0)
    grid, looks = torch.randn(2, 5, 16, 20) * 3 + 5, [torch.randn(2, 2, 32, 40) * 3 for _ in range(2)]
    classes = {"rejected": torch.randn(2, 2, 3, 5) * 5, "contrast": torch.randn(2, 5), "scale": torch.rand(5)}
    each = torch.cat([suppressed(logits, grid, classes) for logits in looks], 1)
    assert torch.allclose(suppressed(torch.cat(looks, 1), grid, classes), each, atol=1e-4)
    assert (each - torch.cat(looks, 1)).abs().mean() > 0.01


def test_a_class_that_did_not_find_a_region_is_left_alone_there():
    regions = [Rejected(torch.tensor([0.0, 4]), torch.tensor([3.0, -2.0]))]
    contrasts = torch.tensor([[4.0, 0], [4.0, 0]])
    lines = (level_slopes(regions, contrasts)[:, :, 0] * (regions[0].features - contrasts[:, None])).sum(2)
    assert (lines + torch.tensor([-1.0, -5])).tolist() == [[3, 4], [0, 1]]
