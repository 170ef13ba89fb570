"""An EfficientNet in strips: timm's own features, whatever the size."""

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anomalib_sofs.model import efficientnet
from anomalib_sofs.model.backbone import Backbone

from .helpers_model import LITE, backbone

STRIDES = {0: 2, 1: 4, 2: 8, 3: 16, 4: 32}


@settings(max_examples=15, deadline=None)
@given(height=st.integers(1, 12), width=st.integers(1, 6), pixels=st.integers(1, 20_000), last=st.integers(0, 4))
def test_strips_give_the_same_features(height, width, pixels, last):
    built = Backbone(LITE, list(STRIDES), pretrained=False)
    image = torch.rand(1, 3, 32 * height, 32 * width, generator=torch.Generator().manual_seed(height))
    image = image.contiguous(memory_format=torch.channels_last)
    whole = built.net(image)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(efficientnet, "STRIP_PIXELS", pixels)
        strips = built(image, slice(0, last + 1))
    assert len(strips) == last + 1
    for mine, theirs in zip(strips, whole, strict=False):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-6)


def test_a_large_image_is_cut_and_a_small_one_is_not():
    built, rows = backbone(), []
    handle = built.net.conv_stem.register_forward_hook(lambda _m, args, _o: rows.append(args[0].shape[-2]))
    built(torch.zeros(1, 3, 512, 512))
    assert rows == [512]
    rows.clear()
    built(torch.zeros(1, 3, 1024, 1024))
    handle.remove()
    assert rows == [276, 296, 296, 276]  # 256 of their own, and 20 more on each inner side


def test_a_network_that_looks_at_the_whole_image_is_never_cut():
    assert efficientnet._is_local(backbone().net)
    squeezing = timm.create_model("efficientnet_b0", pretrained=False, features_only=True)
    assert not efficientnet._is_local(squeezing)
