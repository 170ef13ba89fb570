"""Exposure: the same part in another light gives the same features, and a marked defect is found in it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anomalib_sofs.model.relation.exposure import BLACK, BRIGHTNESS, MAX_GAIN, equalise_exposure

from .helpers_model import default_model, marked, support

MODEL = default_model()


def raw(image: torch.Tensor) -> torch.Tensor:
    return image * MODEL.std + MODEL.mean


@settings(max_examples=25, deadline=None)
@given(light=st.floats(0.2, 1.0), seed=st.integers(0, 100))
def test_an_image_comes_out_at_one_brightness_in_any_light(light, seed):
    image = light * torch.rand(1, 3, 20, 30, generator=torch.Generator().manual_seed(seed))
    brightness = float(image.mean())
    result = raw(equalise_exposure(MODEL.normalise(image)))
    assert float(result.mean()) == pytest.approx(BRIGHTNESS * brightness / (brightness + BLACK), rel=1e-4)
    torch.testing.assert_close(result, image * (result.mean() / image.mean()), atol=1e-5, rtol=1e-4)  # a factor


def test_each_image_of_a_batch_has_its_own_exposure():
    image = (
        torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1.0, 0.3])[:, None, None, None]
    )
    both = equalise_exposure(MODEL.normalise(image))
    for row in range(2):
        torch.testing.assert_close(both[row], equalise_exposure(MODEL.normalise(image[row : row + 1]))[0])


def test_black_stays_black_and_nearly_black_grows_by_four_at_most():
    assert float(raw(equalise_exposure(MODEL.normalise(torch.zeros(1, 3, 8, 8)))).abs().max()) < 1e-6
    faint = torch.full((1, 3, 8, 8), 0.01)
    torch.testing.assert_close(raw(equalise_exposure(MODEL.normalise(faint))), MAX_GAIN * faint, atol=1e-6, rtol=0)


@pytest.mark.parametrize("light", [1.0, 0.5, 0.3])
def test_a_defect_is_found_however_bright_the_query_is(light):
    encoding = MODEL.encode(support(marked(120, 140, (50, 60, 57, 66), seed=1)))
    image, mask = marked(128, 128, (80, 30, 87, 36), seed=2)
    found = MODEL.predict(MODEL.normalise(light * image)[None], encoding).maps[0, 0] > 0.5
    both, either = (found & (mask > 0)).sum(), (found | (mask > 0)).sum()
    assert float(both / either) > 0.5
