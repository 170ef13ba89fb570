"""The heads behind the model: several classes, mixed support sets, many shots, saved encodings, tiny images."""

import io
import math
import re
import weakref
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from anomalib.data import ImageBatch
from PIL import Image
from rich.console import Console

from anomalib_sofs import Sofs
from anomalib_sofs.model import SofsModel, SupportSet
from anomalib_sofs.model.backbone import Backbone
from anomalib_sofs.model.crop_cache import crop_cache
from anomalib_sofs.model.encoding import SupportEncoding, encoding_bytes
from anomalib_sofs.model.episodes import own_crops
from anomalib_sofs.model.heads import build_head
from anomalib_sofs.model.relation.fine_maps import FINE_RELATIONS
from anomalib_sofs.model.relation.maps import MAPS
from anomalib_sofs.model.relation.marks import stacked
from anomalib_sofs.model.relation.network import inputs
from anomalib_sofs.model.support_crops import SupportCrops
from anomalib_sofs.model.support_windows import covers_much, place_windows

from .helpers_model import backbone, crops_of, default_model, marked, paper_model, support, surface

MODELS = {"relation": default_model, "paper": paper_model}
DARK = marked(120, 140, (50, 60, 57, 66), seed=1)
BRIGHT = marked(110, 100, (20, 70, 26, 78), seed=2, value=1.0)
NORMAL = surface(96, 130, seed=3), torch.zeros(96, 130)


@pytest.fixture(params=MODELS)
def model(request) -> SofsModel:
    return MODELS[request.param]()


def query(model: SofsModel, height: int = 150, width: int = 170) -> torch.Tensor:
    """A normalised query with a dark and a bright patch, larger than a window."""
    image, _ = marked(height, width, (30, 40, 37, 46), seed=7)
    image[:, 100:106, 120:128] = 1
    return model.normalise(image)[None]


def of_one(pair: tuple[torch.Tensor, torch.Tensor], times: int = 1) -> dict[str, torch.Tensor]:
    """Relation encoding of a support image, given several times."""
    return default_model().encode(support(*[pair] * times)).encodings[0]


# -- several classes -------------------------------------------------------------------------------------------------


def test_every_class_has_the_map_that_it_has_alone(model):
    both = model.encode(support(DARK, BRIGHT, labels=["dark", "bright"]))
    assert both.names == ["bright", "dark"]
    maps = model.predict(query(model), both).maps
    assert maps.shape == (1, 2, 150, 170)
    for row, (name, encoding) in enumerate(zip(both.names, both.encodings, strict=True)):
        alone = model.predict(query(model), SupportEncoding({name: encoding})).maps
        torch.testing.assert_close(maps[:, row : row + 1], alone, atol=1e-5, rtol=0)
    assert not torch.allclose(maps[:, 0], maps[:, 1], atol=1e-3)
    result = model(query(model), both)
    assert torch.equal(result.anomaly_map, maps.amax(dim=1))


def test_classes_of_a_support_set_share_their_background():
    bright, dark = default_model().encode(support(DARK, BRIGHT, labels=["dark", "bright"])).encodings
    shared = {name for name in dark if torch.equal(bright[name], dark[name])}
    assert shared == {"scale", "mean", "precision", "background"}


def test_in_the_papers_form_a_class_knows_nothing_of_the_others():
    model = paper_model()
    _, dark = model.encode(support(DARK, BRIGHT, labels=["dark", "bright"])).encodings
    alone = model.encode(support(DARK)).encodings[0]
    for name, value in alone.items():
        torch.testing.assert_close(dark[name], value, atol=1e-5, rtol=1e-5, msg=name)


def test_the_backbone_sees_a_query_once_for_all_classes(model):
    passes = []
    handle = model.backbone.register_forward_hook(lambda *_: passes.append(1))
    counts = []
    for labels in (["a"], ["a", "b"], ["a", "b", "c"]):
        encoding = model.encode(support(*[DARK, BRIGHT, DARK][: len(labels)], labels=labels))
        passes.clear()
        model.predict(query(model), encoding)
        counts.append(len(passes))
    handle.remove()
    assert len(set(counts)) == 1


def test_the_trained_head_tells_dark_from_bright():
    model = default_model()
    encoding = model.encode(support(DARK, BRIGHT, labels=["dark", "bright"]))
    bright, dark = model.predict(query(model), encoding).maps[0]
    assert float(dark[32:35, 42:44].mean()) > max(0.5, float(bright[32:35, 42:44].mean()))
    assert float(bright[102:104, 122:126].mean()) > max(0.5, float(dark[102:104, 122:126].mean()))
    assert float((bright > 0.5).float().mean()) < 0.02


# -- mixed support sets and shots --------------------------------------------------------------------------------------


def test_normal_images_never_dilute_the_contrast():
    alone = of_one(DARK)
    mixed = default_model().encode(support(DARK, NORMAL, NORMAL)).encodings[0]
    torch.testing.assert_close(
        mixed["contrast"] / mixed["scale"], alone["contrast"] / alone["scale"], atol=1e-4, rtol=1e-4
    )
    assert not torch.allclose(mixed["precision"], alone["precision"])  # but they add to the background


def test_normal_images_never_dilute_the_papers_background():
    model = paper_model()
    alone, mixed = (model.encode(support(*pairs)).encodings[0] for pairs in ((DARK,), (DARK, NORMAL)))
    cells = model.head.windows.size // model.backbone.stride
    windows = len(place_windows(NORMAL[1], model.head.windows.size, model.crops_per_shot))
    assert len(mixed["background_cells_0"]) - len(alone["background_cells_0"]) == windows * cells**2
    assert len(mixed["support_cells"]) == len(alone["support_cells"])


def test_four_identical_supports_are_one():
    one, four = of_one(DARK), of_one(DARK, times=4)
    assert {k: v.shape for k, v in one.items()} == {k: v.shape for k, v in four.items()}
    for name in one.keys() - {"defect", "background", "odds", "distance"}:
        torch.testing.assert_close(four[name], one[name], atol=1e-4, rtol=1e-3, msg=name)
    # the exemplars are drawn from the same cells
    similarity = four["defect"] @ one["defect"].T / 3  # each of the three layers is of unit length
    torch.testing.assert_close(similarity.amax(dim=1), torch.ones(len(similarity)), atol=1e-4, rtol=0)


def test_the_encoding_does_not_grow_with_the_shots():
    model = default_model()
    one, eight = (encoding_bytes(model.encode(support(*[DARK, BRIGHT] * n))) for n in (1, 4))
    assert one == eight
    features = model.head.features(model.backbone, query(model, 64, 64))
    maps, fine = model.head.relate(features, stacked([of_one(DARK)]))
    assert maps.shape == (1, MAPS, 16, 16)
    assert fine.shape == (1, len(FINE_RELATIONS), 32, 32)


def test_features_of_a_support_image_are_gone_before_the_next_ones_are_made(monkeypatch):
    model = default_model(160)  # one window per image
    made, alive = [], []

    def extract(backbone, windows):
        alive.append(sum(grid() is not None for grid in made))
        features = type(model.head).features(model.head, backbone, windows)
        made.append(weakref.ref(features[0]))
        return features

    monkeypatch.setattr(model.head, "features", extract)
    monkeypatch.setattr("anomalib_sofs.model.torch_model.TWICE_BYTES", 0)  # none is kept
    model.encode(support(*[DARK, BRIGHT, NORMAL] * 3))
    assert len(alive) == 18 + 12  # two views of each, and those of the marked ones once more
    assert max(alive) <= 4


def test_supports_of_different_sizes_work_together(model):
    assert DARK[0].shape != BRIGHT[0].shape
    encoding = model.encode(support(DARK, BRIGHT))
    assert torch.isfinite(model.predict(query(model), encoding).maps).all()


@pytest.mark.parametrize("share", [0.0099, 0.0103])
def test_the_default_head_keeps_native_resolution_however_much_is_marked(share):
    """At 1 % the paper begins to resize the whole image; ours never does."""
    model = default_model()
    side = round((share * 200 * 220) ** 0.5)
    encoding = model.encode(support(marked(200, 220, (40, 40, 40 + side, 40 + side))))
    assert not encoding.whole
    sizes = []
    handle = model.backbone.register_forward_pre_hook(lambda _m, args: sizes.append((args[0].shape[-2:], args[2])))
    result = model(query(model, 300, 200), encoding)
    handle.remove()
    assert result.anomaly_map.shape == (1, 300, 200)
    assert sizes == [((160, 128), 2)] * 4  # windows seen twice as large: three of 128 were more


def test_a_large_defect_is_seen_on_the_whole_image_in_the_papers_form():
    model = paper_model()
    large = marked(200, 220, (40, 40, 120, 150))
    assert covers_much(large[1])
    assert not covers_much(DARK[1])
    assert model.encode(support(large)).whole
    assert not model.encode(support(large, DARK)).whole
    sizes = []
    handle = model.backbone.register_forward_pre_hook(lambda _m, args: sizes.append(args[0].shape[-2:]))
    result = model(query(model, 300, 200), model.encode(support(large)))
    handle.remove()
    assert result.anomaly_map.shape == (1, 300, 200)
    assert sizes == [(96, 96)] * 2  # the support, the query


def test_thin_defects_keep_their_share_when_the_paper_resizes_the_whole_image():
    """Lines one pixel wide every 32 pixels, 3 % of the image, of which no sampled pixel remains."""
    model = paper_model()
    mask = torch.zeros(1024, 1024)
    mask[16::32] = 1
    crops = SupportCrops(
        support((surface(1024, 1024), mask)), model.head.windows, model.normalise, per_image=4, whole=True
    )
    assert float(crops.masks[0].mean()) == pytest.approx(float(mask.mean()), rel=1e-5)
    encoding = model.encode(support((surface(1024, 1024), mask), labels=["lines"]))
    assert encoding.whole
    assert len(encoding.encodings[0]["support_cells"]) > 0


# -- support windows -----------------------------------------------------------------------------------------------


def test_support_windows_cover_every_defect_with_as_few_as_possible():
    mask = torch.zeros(300, 400)
    mask[10, 10] = mask[12, 30] = mask[290, 390] = 1
    corners = place_windows(mask, 64, 4)
    assert len(corners) == 2
    covered = torch.zeros_like(mask)
    for y, x in corners:
        assert 0 <= y <= 300 - 64
        assert 0 <= x <= 400 - 64
        covered[y : y + 64, x : x + 64] = 1
    assert bool((covered[mask > 0] == 1).all())
    assert len(place_windows(mask, 64, 1)) == 1
    assert place_windows(torch.zeros(64, 64), 64, 4) == [(0, 0)]
    assert place_windows(torch.zeros(128, 64), 64, 3) == [(0, 0), (32, 0), (64, 0)]


def test_no_support_image_is_encoded_twice(model):
    passes = []
    handle = model.backbone.register_forward_hook(lambda *_: passes.append(1))
    cache = crop_cache(2**28)
    images = SupportSet([DARK[0]], [DARK[1]], paths=["a.png"])
    first = model.encode(images, cache).encodings[0]
    count = len(passes)
    second = model.encode(images, cache).encodings[0]
    handle.remove()
    assert len(passes) == count > 0
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_an_image_with_defects_of_two_classes_keeps_them_apart_in_the_cache(model):
    cache, other_mask = crop_cache(2**28), torch.zeros_like(DARK[1])
    other_mask[100:106, 20:30] = 1
    sets = [SupportSet([DARK[0]], [mask], paths=["a.png"]) for mask in (DARK[1], other_mask)]
    for images in sets:
        cached, fresh = (model.encode(images, c).encodings[0] for c in (cache, None))
        assert all(torch.equal(cached[key], fresh[key]) for key in fresh)


def test_a_test_run_encodes_each_support_once_and_never_takes_one_class_for_another(tmp_path):
    files = {name: str(tmp_path / f"{name}.png") for name in ("part", "hole", "crack")}
    Image.fromarray((DARK[0] * 255).byte().permute(1, 2, 0).numpy()).save(files["part"])
    for name, left in (("hole", 60), ("crack", 10)):
        mask = torch.zeros(DARK[1].shape, dtype=torch.uint8)
        mask[50:57, left : left + 6] = 255
        Image.fromarray(mask.numpy()).save(files[name])
    sofs, passes = Sofs(), []
    sofs.model.backbone.register_forward_hook(lambda *_: passes.append(1))
    hole = sofs._encode_files((files["part"],), (files["hole"],))
    crack = sofs._encode_files((files["part"],), (files["crack"],))
    assert len(passes) == 2  # two views; what is marked changes no feature
    assert sofs._encode_files((files["part"],), (files["hole"],)) is hole
    assert len(passes) == 2
    assert not torch.allclose(hole.encodings[0]["contrast"], crack.encodings[0]["contrast"], atol=0.1)


# -- saved encodings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_an_encoding_survives_a_checkpoint_whatever_was_there_before(name, tmp_path):
    model, other = MODELS[name](), MODELS[name]()
    model.support = model.encode(support(DARK, BRIGHT, NORMAL, labels=["dark.v2", "bright", "good"]))
    other.support = other.encode(support(marked(64, 64, (3, 3, 9, 20))))  # other classes, other shapes
    torch.save(model.state_dict(), tmp_path / "model.pt")
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert other.support.names == ["bright", "dark.v2"]
    assert torch.equal(other.support.preview, model.support.preview)
    assert torch.equal(other.predict(query(other)).maps, model.predict(query(model)).maps)


def test_an_encoding_of_normality_survives_too(model):
    model.support = model.encode(support(NORMAL))
    other = SupportEncoding({"defect": {"x": torch.zeros(3)}}, whole=not model.support.whole)
    other.load_state_dict(model.support.state_dict())
    assert (other.normal, other.whole, other.names) == (True, model.detector.resizes_large, ["defect"])
    assert torch.equal(model.predict(query(model), other).maps, model.predict(query(model)).maps)


def test_an_empty_encoding_replaces_another():
    other = SupportEncoding({"defect": {"x": torch.zeros(3)}}, preview=torch.zeros(3, 2, 2, dtype=torch.uint8))
    other.load_state_dict(SupportEncoding().state_dict())
    assert len(other) == 0
    assert other.preview is None


# -- extremes ----------------------------------------------------------------------------------------------------------

TINY = {
    "one pixel in a large image": marked(200, 180, (99, 77, 100, 78)),
    "one pixel in the corner": marked(90, 90, (0, 0, 1, 1)),
    "one pixel of a tiny image": marked(5, 7, (2, 3, 3, 4)),
    "one pixel of two": marked(1, 2, (0, 0, 1, 1)),
    "a single row": marked(1, 60, (0, 20, 1, 23)),
    "everything but a row marked": marked(40, 50, (0, 0, 39, 50)),
    "no structure at all": (torch.zeros(64, 64), marked(64, 64, (9, 9, 12, 12))[1]),
}


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("head", MODELS)
def test_extreme_supports_give_finite_maps(head, name):
    model = MODELS[head]()
    image, mask = TINY[name]
    encoding = model.encode(support((image.expand(3, -1, -1), mask)))
    assert all(torch.isfinite(value.float()).all() for value in encoding.buffers())
    for size in ((1, 1), (9, 70), (130, 64)):
        maps = model.predict(query(model, 150, 170)[..., : size[0], : size[1]], encoding).maps
        assert maps.shape == (1, 1, *size)
        assert torch.isfinite(maps).all()


@pytest.mark.parametrize("size", [(1, 1), (20, 25), (32, 32), (33, 64)])
@pytest.mark.parametrize("constant", [False, True])
def test_tiny_normal_images_give_finite_distances(model, size, constant):
    image = torch.full((3, *size), 0.5) if constant else surface(*size)
    encoding = model.encode(SupportSet([image], [torch.zeros(size)]))
    assert encoding.normal
    for side in (1, 30, 100):
        result = model(query(model)[..., :side, :side], encoding)
        assert result.anomaly_map.shape == (1, side, side)
        assert torch.isfinite(result.anomaly_map).all()
        assert torch.isfinite(result.pred_score).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_query_that_is_not_numbers_is_named(value):
    image = torch.zeros(1, 3, 64, 64)
    image[0, 0, 5, 5] = value
    with pytest.raises(ValueError, match=r"/some/query\.tif.* holds values that are not numbers \(NaN or infinity\)"):
        Sofs()._segment(ImageBatch(image=image, image_path=["/some/query.tif"]))


def test_a_defect_gives_a_gradient_to_every_part_of_the_default_head():
    torch.manual_seed(0)
    model = SofsModel(backbone(), build_head("relation", backbone(), 64)).train()
    images, masks = (
        torch.stack(x) for x in zip(*[marked(64, 64, (20, 20, 28, 28), seed=s) for s in range(4)], strict=True)
    )
    masks[1] = 0  # a normal query beside a defective one
    images = model.normalise(images)
    loss = model.head.loss(model.backbone, own_crops(images[:2], masks[:2], images[2:, None], masks[2:, None]))
    loss.backward()
    gradients = {name: p.grad for name, p in model.head.named_parameters()}
    assert torch.isfinite(loss)
    assert all(g is not None and torch.isfinite(g).all() for g in gradients.values())
    assert min(float(gradients[f"nets.0.{part}.weight"].abs().sum()) for part in ("out", "fine", "cells")) > 0
    assert all(p.grad is None for p in model.backbone.parameters())


def test_the_paper_head_on_a_transformer_runs_through_the_model():
    torch.manual_seed(0)
    features = Backbone("vit_tiny_patch16_224", [2, 5], pretrained=False)
    model = SofsModel(features, build_head("paper", features, 64, dim=8, merged_dim=8)).eval()
    model.head_trained.fill_(value=True)
    maps = model.predict(query(model, 70, 100), model.encode(support(DARK))).maps
    assert maps.shape == (1, 1, 70, 100)
    assert torch.isfinite(maps).all()


# -- the network over the maps -----------------------------------------------------------------------------------------


def test_the_share_of_defect_on_the_support_moves_every_logit_alike():
    net = default_model().head.nets[0]
    generator = torch.Generator().manual_seed(0)
    maps, fine = torch.randn(1, MAPS, 8, 16, generator=generator), torch.randn(1, 7, 16, 32, generator=generator)
    more = maps.clone()
    more[:, -1] += 2
    (one, vote), (other, same) = (net(*inputs(given, fine)) for given in (maps, more))
    assert one.shape == (1, 1, 16, 32)
    torch.testing.assert_close(other - one, torch.full_like(one, 2), atol=1e-4, rtol=0)
    assert torch.equal(vote, same)


@torch.no_grad()
def test_the_networks_are_averaged():
    torch.manual_seed(0)
    head = Sofs(weights=None, head_options={"members": 2}).model.head.eval()
    maps, fine = torch.randn(1, MAPS, 8, 16), torch.randn(1, 7, 16, 32)
    (one, vote), (other, other_vote) = (net(*inputs(maps, fine)) for net in head.nets)
    result = head.decide(maps, fine)
    torch.testing.assert_close(result[:, :1], (one + other) / 2)
    torch.testing.assert_close(result[:, 1], ((vote + other_vote) / 2).expand(1, 16, 32))
    assert float((one - other).abs().mean()) > 0.1


def test_a_head_without_networks_is_refused():
    with pytest.raises(ValueError, match=r"head_options\.members is 0: at least one network decides"):
        Sofs(weights=None, head_options={"members": 0})


def test_the_encoding_holds_the_log_odds_of_the_defect():
    model = default_model()
    crops = crops_of(model, DARK)
    features = crops.features(partial(model.head.features, model.backbone))
    odds = model.head.statistics(features, crops.masks, crops.labels)["defect"]["odds"]
    share = float(DARK[1].sum()) / 128**2  # of the one window that holds it
    assert float(odds) == pytest.approx(math.log(share / (1 - share)), abs=1e-3)


# -- caches ------------------------------------------------------------------------------------------------------------


def test_supports_in_memory_are_kept_by_their_content_and_not_by_their_names(model):
    """Sets made in memory have no files: both images are called "support image 0"."""
    cache = crop_cache(2**28)
    for pair in (DARK, (DARK[0].flip(-1), DARK[1].flip(-1)), (DARK[0], DARK[1].roll(3, 0))):
        cached, fresh = (model.encode(support(pair), kept).encodings[0] for kept in (cache, None))
        assert all(torch.equal(cached[key], fresh[key]) for key in fresh)
    # two images at two angles; the published head's windows are smaller than the image and follow the mark
    assert len(cache) == (3 if model.head.windows.fixed else 4)


def test_what_is_larger_than_the_cache_is_not_kept(model):
    cache = crop_cache(100)
    assert len(model.encode(support(DARK), cache)) == 1
    assert len(cache) == 0


def test_a_second_validation_of_an_epoch_encodes_with_the_head_of_now(tmp_path):
    files = [str(tmp_path / name) for name in ("part.png", "mask.png")]
    Image.fromarray((DARK[0] * 255).byte().permute(1, 2, 0).numpy()).save(files[0])
    Image.fromarray((DARK[1] * 255).byte().numpy()).save(files[1])
    sofs = Sofs()
    sofs.trainer = SimpleNamespace(datamodule=SimpleNamespace(class_names=["part/pit"]))
    before = sofs._encode_files((files[0],), (files[1],))
    sofs.on_validation_start()
    with torch.no_grad():
        for parameter in sofs.model.head.parameters():
            parameter.add_(0.1)
    sofs.on_validation_start()
    after = sofs._encode_files((files[0],), (files[1],))
    assert float(after.encodings[0]["odds"]) != float(before.encodings[0]["odds"])


@pytest.mark.parametrize(("count", "terminal"), [(2, True), (20, True), (20, False)])
def test_many_supports_show_a_progress_bar_on_a_screen(count, terminal, monkeypatch, capfd):
    """Elsewhere there is nothing, not even an empty line; and nothing of it among results."""
    screen, small = io.StringIO(), marked(64, 64, (20, 20, 26, 26), seed=1)
    monkeypatch.setattr("anomalib_sofs.progress.Console", lambda **_: Console(file=screen, force_terminal=terminal))
    default_model(64).encode(support(*[small] * count))
    assert ("Support images" in screen.getvalue()) == (count == 20 and terminal)
    assert terminal or not screen.getvalue()
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("head", "options", "message"),
    [
        (
            "relation", {"membres": 3},
            "head_options of head='relation': Option 'membres' is not accepted. It has members, background_windows, evidence.",
        ),
        ("relation", {"members": "two"}, "\"members\": Expected a <class 'int'>. Got value: two. It has members"),
        ("relation", {"window_size": 256}, "Option 'window_size' is not accepted"),
        ("paper", {"members": 2}, "head='paper': Option 'members' is not accepted. It has dim, merged_dim, abnormal_prior, "),
        ("paper", {"mask_downsampling": "nearest"}, "Expected a typing.Literal['area', 'bilinear']. Got value: nearest"),
    ],
)  # fmt: skip
def test_an_option_that_a_head_does_not_have_is_named(head, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Sofs(head=head, head_options=options)
