"""The default head sees its support turned: what is marked across is found up and down."""

import torch

from .helpers_model import crops_of, default_model, marked, paper_model, support, surface

ACROSS = marked(128, 128, (60, 30, 63, 100), seed=1)


def test_a_crop_is_seen_as_it_is_and_turned_by_a_quarter():
    first, turned = crops_of(default_model(), ACROSS).masks
    assert torch.equal(first, ACROSS[1])
    assert torch.equal(turned, torch.rot90(ACROSS[1]))


def test_a_line_that_was_marked_across_is_found_up_and_down():
    model = default_model()
    image, mask = marked(128, 128, (20, 80, 100, 83), seed=2)
    found = model(model.normalise(image)[None], model.encode(support(ACROSS))).anomaly_map[0] > 0.5
    hit = float((found & (mask > 0)).sum())
    assert hit / float(mask.sum()) > 0.8
    assert hit / float(found.sum()) > 0.4  # a line of 3 pixels


def test_marked_images_are_seen_in_two_turns_and_normal_ones_alone_in_four():
    normal = surface(128, 128, seed=5), torch.zeros(128, 128)
    for model, images, passes in (
        (default_model(), [ACROSS], 2), (default_model(), [ACROSS, normal], 4), (default_model(), [normal], 8),
        (paper_model(), [ACROSS], 1), (paper_model(), [normal], 4),
    ):  # fmt: skip
        seen = []
        handle = model.backbone.register_forward_hook(lambda *_, seen=seen: seen.append(1))
        model.encode(support(*images))
        handle.remove()
        assert len(seen) == passes
