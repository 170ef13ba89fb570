"""`benchmark corrections`: a user who is the ground truth, on a category small enough to count by hand."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from anomalib_sofs.benchmark.__main__ import main
from anomalib_sofs.benchmark.corrections import Found, Seen, _correct
from anomalib_sofs.model import SupportSet

from .helpers_model import marked, surface


def picture(path, image, mask=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)).save(path)
    if mask is not None:
        truth = path.parents[2] / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
        truth.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask.numpy().astype(np.uint8) * 255).save(truth)


def test_rejected_false_alarms_leave_good_images_alone_afterwards(tmp_path):
    for number in range(4):
        top, left = 20 + 15 * number, 30 + 20 * number
        picture(tmp_path / f"part/test/pit/{number}.png", *marked(96, 128, (top, left, top + 7, left + 6), seed=number))
        good = surface(96, 128, 20 + number)
        good[:, 40:52, 20 + 9 * number : 32 + 9 * number] = 0.15  # a hole, which is to be there
        picture(tmp_path / f"part/test/good/{number}.png", good)
        picture(tmp_path / f"part/train/good/{number}.png", surface(96, 128, 40 + number))
    result = tmp_path / "result.json"
    assert main(["corrections", "--root", str(tmp_path), "--corrections", "2", "--json", str(result)]) == 0
    rows = json.loads(result.read_text())["rows"]
    assert [(row["corrections"], row["images"], row["good_images"]) for row in rows] == [(0, 3, 2), (2, 3, 2)]
    assert [row["false_positives"] for row in rows] == [1, 0]
    assert rows[1]["miou"] >= rows[0]["miou"] - 0.02 > 0.4


@pytest.mark.parametrize(
    ("found", "truth", "labels"),
    [
        ([(0, 0, 4, 4), (10, 10, 16, 16)], (30, 30, 34, 34), ["not"]),  # the largest false region, once
        ([], (30, 30, 34, 34), ["defect"]),  # missed
        ([(30, 30, 36, 36)], (30, 30, 34, 34), []),  # larger than the truth, but right
        ([], None, []),
    ],
)
def test_what_the_user_says_of_an_image(tmp_path, found, truth, labels):
    picture(tmp_path / "a.png", surface(48, 48))
    masks = [np.zeros((48, 48), bool) for _ in range(2)]
    for mask, boxes in zip(masks, (found, [truth] if truth else []), strict=True):
        for top, left, bottom, right in boxes:
            mask[top:bottom, left:right] = True
    support = SupportSet(*([value] for value in marked(48, 48, (5, 5, 9, 9))))
    seen = Seen(str(tmp_path / "a.png"), masks[1], np.ones((48, 48), bool), good=truth is None)
    assert _correct(support, seen, Found(masks[0], 1.0)) == bool(labels)
    said = ["defect" if region is None else "not" for region in support.rejected[1:]]
    assert said == labels
    if labels == ["not"]:
        assert int(support.rejected[1].sum()) == 36
    if labels == ["defect"]:
        assert torch.equal(support.masks[1].bool(), torch.from_numpy(masks[1]))
