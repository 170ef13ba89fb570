"""A find ends where the logit has fallen to half of its peak."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from anomalib_sofs.model.relation.extent import rim


def cut_at_half_peak(logits):
    """Logits, lowered so that a find ends at half of its peak."""
    return logits - rim(logits.amax((2, 3), keepdim=True))


def test_half_of_what_a_peak_exceeds_one_by_is_taken_off_each_map():
    logits = torch.tensor([[[[7.0, 4.5, 2.5, -1.0]], [[0.8, 0.3, -2.0, -4.0]]]])
    torch.testing.assert_close(
        cut_at_half_peak(logits), torch.tensor([[[[4.0, 1.5, -0.5, -4.0]], [[0.8, 0.3, -2.0, -4.0]]]])
    )


@given(st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=8))
def test_every_find_stays_one_and_images_keep_their_order(peaks):
    images = torch.tensor(peaks)[:, None, None, None] - torch.tensor([0.0, 1.0, 3.0])
    cut = cut_at_half_peak(images).amax((1, 2, 3))
    assert torch.equal(cut > 0, torch.tensor(peaks) > 0)
    order = torch.tensor(peaks).argsort()
    assert bool((cut[order].diff() >= 0).all())
