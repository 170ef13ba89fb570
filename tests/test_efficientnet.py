"""An EfficientNet in strips, and on an image seen larger than it is: timm's own features, whatever the size."""

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs.model import efficientnet, enlargement
from anomalib_sofs.model.backbone import Backbone

from .helpers_model import LITE, backbone

STRIDES = {0: 2, 1: 4, 2: 8, 3: 16, 4: 32}


@settings(max_examples=10, deadline=None)
@given(
    height=st.integers(1, 4),
    width=st.integers(1, 3),
    values=st.integers(1, 50_000),
    last=st.integers(0, 4),
    times=st.sampled_from([1, 2, 3]),
)
def test_strips_of_an_image_seen_larger_give_the_same_features(height, width, values, last, times):
    built = Backbone(LITE, list(STRIDES), pretrained=False)
    image = torch.rand(1, 3, 32 * height, 32 * width, generator=torch.Generator().manual_seed(height))
    image = image.contiguous(memory_format=torch.channels_last)
    large = image
    if times > 1:
        large = F.interpolate(image, scale_factor=float(times), mode="bilinear", align_corners=False)
    whole = built.net(large)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(efficientnet, "STRIP_VALUES", values)
        patch.setattr(efficientnet, "LARGE_VALUES", 0)
        patch.setattr(efficientnet, "LEAST_ROWS", 4)
        strips = built(image, slice(0, last + 1), times)
    assert len(strips) == last + 1
    for mine, theirs in zip(strips, whole, strict=False):
        assert float((mine - theirs).abs().max() / theirs.abs().max()) < 1e-4


@pytest.mark.parametrize("graph", [False, True])
def test_the_first_convolution_of_an_image_seen_twice_as_large_needs_no_larger_image(graph, monkeypatch):
    conv = backbone().net.conv_stem
    image = torch.randn(2, 3, 34, 62, generator=torch.Generator().manual_seed(0))
    expected = conv(enlargement.enlarged(image, 2))
    monkeypatch.setattr(enlargement, "recording", lambda: graph)
    with torch.no_grad():
        found = enlargement.enlarged_stem(conv, image)
    assert found.shape == (2, 32, 34, 62)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_first_convolution_with_padding_on_both_sides_sees_the_larger_image():
    built = Backbone("efficientnet_b0", [0, 1], pretrained=False)
    image = torch.rand(1, 3, 64, 96).contiguous(memory_format=torch.channels_last)
    for mine, theirs in zip(built(image, times=2), built.net(enlargement.enlarged(image, 2)), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-6)


def test_the_first_layer_is_a_block_of_its_own_where_its_map_is_wanted():
    built = Backbone("tf_efficientnetv2_b0", [0, 1, 2], pretrained=False)
    image = torch.rand(1, 3, 64, 96).contiguous(memory_format=torch.channels_last)
    for mine, theirs in zip(built(image), built.net(image), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-6)


def test_large_maps_are_cut_and_small_ones_are_not():
    built, rows = backbone(), []
    handle = built.net.blocks[1][0].register_forward_hook(lambda _m, args, _o: rows.append(args[0].shape[-2]))
    built(torch.zeros(1, 3, 256, 256))  # 96 channels on 128 x 128 cells
    assert rows == [128]
    rows.clear()
    built(torch.zeros(1, 3, 512, 512))
    handle.remove()
    assert rows == [44, *[46] * 5, 6]  # 42 of their own, 4 in the last one, and 2 more on each inner side


def test_a_network_that_looks_at_the_whole_image_is_never_cut():
    assert efficientnet._is_local(backbone().net)
    squeezing = timm.create_model("efficientnet_b0", pretrained=False, features_only=True)
    assert not efficientnet._is_local(squeezing)
