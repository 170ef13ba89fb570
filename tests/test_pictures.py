"""Pictures for people: a size that can be opened, what was marked and found at the image's own scale."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from anomalib_sofs.model import SupportSet
from anomalib_sofs.model.preview import OUTLINE, part_around, preview
from anomalib_sofs.visualization.panels import FOUND, reduced_classes, shared_factor, side_by_side
from anomalib_sofs.visualization.visualizer import _panels

from .helpers_model import marked


def batch(height, width, box, *, truth=False):
    """A prediction on a grey image; what was found is a box ``(top, left, bottom, right)``."""
    classes = np.zeros((height, width), np.int64)
    classes[box[0] : box[2], box[1] : box[3]] = 1
    support = SupportSet(*([value] for value in marked(600, 900, (300, 500, 310, 530))))
    made = SimpleNamespace(
        image=torch.zeros(1, 3, height, width),
        anomaly_map=torch.from_numpy(classes)[None].float(),
        pred_score=torch.tensor([0.9]),
        support_previews=[preview(support)],
        support_records=[{"labels": ["pit"], "normal": False}],
        gt_mask=torch.from_numpy(classes)[None] > 0 if truth else None,
    )
    return made, classes


@pytest.mark.parametrize(
    ("height", "width", "truth"), [(500, 2600, True), (2000, 2400, False), (4000, 300, True), (400, 13000, False)]
)
def test_a_picture_has_at_most_4_megapixels_and_what_matters_is_in_it_at_native_scale(height, width, truth):
    made, classes = batch(height, width, (100, 200, 103, 207), truth=truth)
    panels = dict(_panels(made, 0, classes))
    assert list(panels)[:2] == ["support (pit)", "largest find"]
    assert panels["support (pit)"].shape == panels["largest find"].shape == (120, 120, 3)  # 4 x 30 pixels
    assert (panels["largest find"] == FOUND).all(2).sum() == 20  # a line of one pixel around 3 x 7
    assert (panels["prediction (score 0.90)"] == FOUND).all(2).any()
    joined = side_by_side(list(panels.items()))
    assert joined.width * joined.height <= 4_000_000
    assert 0.2 < joined.width / joined.height < 6


def test_a_find_that_the_query_shows_as_large_is_not_shown_twice():
    made, classes = batch(130, 130, (10, 20, 13, 27))
    assert [name for name, _ in _panels(made, 0, classes)][:2] == ["support (pit)", "query"]


def test_a_reduced_map_keeps_the_smallest_region():
    classes = np.zeros((1000, 1000), np.int64)
    classes[501, 777] = 2
    small = reduced_classes(classes, shared_factor((1000, 1000), 40))
    assert small.shape[0] < 400
    assert sorted(np.unique(small).tolist()) == [0, 2]


def test_the_part_around_a_mark_is_moved_into_the_image_and_shows_large_marks_whole():
    mask = np.zeros((200, 300), bool)
    mask[2:12, 280:300] = True
    mask[100, 100] = True  # a smaller one
    assert part_around(mask) == (slice(0, 96), slice(204, 300))
    mask[:, :290] = True
    assert mask[part_around(mask)].shape == (200, 300)


def test_the_preview_outlines_the_mark():
    image, mask = marked(600, 900, (300, 500, 310, 530))
    shown = preview(SupportSet([image], [mask]))
    green = torch.tensor([round(255 * value) for value in OUTLINE])[:, None, None]
    assert shown.shape == (3, 120, 120)
    assert int((shown == green).all(0).sum()) == 2 * (10 + 30) + 4
