"""Evidence: no defect without about as much of it as was marked."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anomalib_sofs import Sofs
from anomalib_sofs.model.relation.evidence import MAX_PIXELS, MIN_EVIDENCE, region_pixels, shortfall

from .helpers_model import default_model, marked, paper_model, support

DARK = marked(128, 128, (50, 60, 57, 66), seed=1)


def picture(*pixels: float, background: float = -8.0) -> torch.Tensor:
    """Logits of an image of 16 x 16 pixels, of which some stand out."""
    logits = torch.full((256,), background)
    logits[: len(pixels)] = torch.tensor(pixels)
    return logits.view(1, 1, 16, 16)


def suppress_weak(logits, evidence, marked_pixels):
    """Logits, lowered where there is too little evidence."""
    return logits - shortfall(logits.amax((2, 3)), evidence, marked_pixels)[..., None, None]


def test_enough_evidence_leaves_the_logits_as_they_are():
    logits = picture(3.0, 1.0, -2.0, 1.0)
    assert torch.equal(suppress_weak(logits, logits, torch.tensor([2.0])), logits)  # mean of the four surest: 0.75


def test_one_sure_pixel_where_many_were_marked_is_no_defect():
    logits = picture(6.0)
    silent = suppress_weak(logits, logits, torch.tensor([10.0]))
    evidence = (6 - 19 * 8) / 20 - MIN_EVIDENCE  # of the twenty surest
    torch.testing.assert_close(silent, logits - 6 + evidence)
    assert torch.equal(
        suppress_weak(logits, logits, torch.tensor([0.4])), logits
    )  # where less than a pixel was marked it is


def test_what_is_weighed_need_not_be_what_is_lowered():
    logits, evidence = picture(3.0, 2.0), picture(-1.0, -1.0)
    silent = suppress_weak(logits, evidence, torch.tensor([1.0]))
    torch.testing.assert_close(silent, logits - 3 + (-1 - MIN_EVIDENCE))
    assert torch.equal(suppress_weak(evidence, logits, torch.tensor([1.0])), evidence)


def test_images_without_enough_evidence_are_ordered_by_it():
    marked_pixels = torch.tensor([2.0])
    pictures = [picture(5.0, *[v] * 3) for v in (-2.0, -3.0, -4.0)]
    peaks = [float(suppress_weak(logits, logits, marked_pixels).max()) for logits in pictures]
    assert 0 >= peaks[0] > peaks[1] > peaks[2]


def test_an_image_of_fewer_pixels_than_count_at_most_can_show_a_defect():
    logits = torch.full((1, 1, 3, 5), -4.0)
    logits[..., 1, 1:3] = 3.0
    assert torch.equal(suppress_weak(logits, logits, torch.tensor([1.0])), logits)


def test_every_class_is_judged_by_its_own_support():
    logits = picture(6.0).expand(1, 2, 16, 16)
    few, many = suppress_weak(logits, logits, torch.tensor([0.5, 20.0]))[0]
    assert torch.equal(few, logits[0, 0])
    assert float(many.max()) < 0


def test_more_than_the_most_need_not_be_found():
    logits = picture(*[0.5] * MAX_PIXELS)
    assert torch.equal(suppress_weak(logits, logits, torch.tensor([1e4])), logits)


def test_of_several_marked_regions_the_median_counts():
    mask = torch.zeros(12, 12)
    mask[0, 0] = mask[2:4, 2:4] = mask[6:9, 6:9] = 255
    mask[4, 4] = 255  # touches the second by a corner: 5 pixels
    assert float(region_pixels(mask)) == 5


@given(st.integers(0, 10**6), st.floats(0.1, 300))
def test_what_is_lowered_keeps_its_order_and_nothing_of_it_is_found(seed, cells):
    logits = 3 * torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(seed)) - 3
    result = suppress_weak(logits, logits, torch.tensor([cells]))
    for before, after in zip(logits, result, strict=True):
        assert torch.equal(before, after) or float(after.max()) <= 1e-5
        torch.testing.assert_close(after - after.max(), before - before.max())


@pytest.mark.parametrize(("model", "count"), [(default_model, 7 * 6), (paper_model, None)])
def test_the_encoding_counts_the_marked_pixels(model, count):
    encoding = model().encode(support(DARK)).encodings[0]
    if count is None:
        assert "marked" not in encoding
    else:
        assert float(encoding["marked"]) == pytest.approx(count, abs=0.01)


def test_evidence_can_be_switched_off():
    """A speck of a few pixels where a hundred are marked: found, unless as much is asked for as is marked."""
    large = marked(128, 128, (50, 60, 60, 70), seed=1)
    image = default_model().normalise(marked(128, 128, (80, 30, 83, 33), seed=2)[0])[None]
    found = []
    for evidence in (True, False):
        sofs = Sofs(head_options={"evidence": evidence}).eval()
        sofs.set_support(support(large))
        with torch.no_grad():
            found.append(float(sofs.model(image).pred_score))
    assert found[0] < 0.1
    assert found[1] > 0.8
