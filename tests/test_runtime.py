"""Bundles and the runtime without PyTorch: the same results, marks that change on the line, and what is said of bad input."""

import gc
import json
import logging
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.utils import save_image

from anomalib_sofs import Sofs, SofsInferencer, SupportSet, export_bundle
from anomalib_sofs.benchmark.__main__ import main
from anomalib_sofs.deploy.bundle import BundleParityError, encoded
from anomalib_sofs.deploy.gate import Found, PrecisionError, check
from anomalib_sofs.deploy.quantisation import quantise
from anomalib_sofs.model.false_alarms import GoodImages
from anomalib_sofs.model.region_of_interest import RegionOfInterest
from anomalib_sofs.runtime.bundle import NAME, BundleError
from anomalib_sofs.runtime.networks import DeviceError
from anomalib_sofs.runtime.watch import watch

from .conftest import REPOSITORY
from .helpers_model import marked, surface
from .helpers_scripts import run
from .test_contrast import good_images

WINDOW = 128


def example(*place, seed, value=0.0, size=(150, 130)):
    """An image of uint8 ``(H, W, 3)`` with a patch, and its mask."""
    image, mask = marked(*size, place, seed=seed, value=value)
    return (image.permute(1, 2, 0) * 255).round().byte().numpy(), (mask * 255).byte().numpy()


PIT, BUMP = example(50, 60, 57, 66, seed=1), example(40, 20, 52, 34, seed=2, value=0.95, size=(128, 140))
GOOD = (surface(120, 110, seed=3).permute(1, 2, 0) * 255).round().byte().numpy()
QUERY = example(80, 80, 88, 91, seed=7, size=(300, 210))[0]
QUERY[200:212, 30:44] = 242


def tensor(image):
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255


def support_of(*examples, labels=()):
    empty = [np.zeros(image.shape[:2], np.uint8) if mask is None else mask for image, mask in examples]
    return SupportSet([tensor(image) for image, _ in examples], [torch.from_numpy(m) for m in empty], list(labels))


@pytest.fixture(scope="module")
def model():
    made = Sofs(window_size=WINDOW, head_options={"background_windows": 2}).eval()
    made.set_support(support_of(PIT, BUMP, labels=["pit", "bump"]))
    return made


@pytest.fixture(scope="module")
def bundle(model, tmp_path_factory):
    return export_bundle(model, tmp_path_factory.mktemp("bundle") / "parts")


@pytest.fixture
def inferencer(bundle):
    return SofsInferencer(bundle)


def expected(model, image):
    with torch.no_grad():
        found = model.model.predict(model.model.normalise(tensor(image))[None])
    return found.maps[0].numpy(), float(found.score)


def assert_equal(prediction, model, image=QUERY):
    maps, score = expected(model, image)
    assert np.abs(prediction.anomaly_map - maps.max(0)).max() < 1e-3
    assert prediction.pred_score == pytest.approx(score, abs=1e-3)
    clear = np.abs(maps - 0.5).min(0) > 1e-3
    classes = np.where(maps.max(0) > 0.5, maps.argmax(0) + 1, 0)
    assert np.array_equal(prediction.pred_mask[clear], classes[clear])


def test_a_bundle_finds_what_the_model_finds(model, inferencer):
    prediction = inferencer.predict(QUERY)
    assert_equal(prediction, model)
    assert prediction.anomaly_map.dtype == np.float32
    assert prediction.pred_mask.dtype == np.uint8
    assert {region["class"] for region in prediction.regions} == {"bump", "pit"}
    assert all(region["peak_probability"] > 0.5 for region in prediction.regions)


def test_the_networks_of_a_bundle_pad_within_their_convolutions(bundle):
    """Pads whose extent is known become part of the convolution; others copy the map, a sixth of the time."""
    network = SofsInferencer(bundle)._networks._features
    kinds = [
        (node.get_rt_info()["layerType"].astype(str), node.get_output_partial_shape(0)[1])
        for node in network.get_runtime_model().get_ops()
        if node.get_output_partial_shape(0).rank.get_length() > 1
    ]
    assert "Convolution" in {kind for kind, _ in kinds}
    assert [channels for kind, channels in kinds if kind == "Pad"] == [3]  # the image alone


@pytest.mark.parametrize("size", [(1, 1), (40, 500), (128, 128)])
def test_any_size_is_answered_at_its_own_size(model, inferencer, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    prediction = inferencer.predict(image)
    assert prediction.anomaly_map.shape == prediction.pred_mask.shape == size
    assert_equal(prediction, model, image)


def test_marks_change_on_the_line_and_give_what_pytorch_gives(model, bundle, tmp_path):
    """Other marks, a normal part beside them, all kinds of image that are taken; and what was encoded can be kept."""
    other = example(100, 30, 108, 45, seed=9, value=0.2, size=(170, 300))  # wider than a window
    Image.fromarray(other[0]).save(tmp_path / "image.png")
    Image.fromarray(other[1]).save(tmp_path / "mask.png")
    edge = SofsInferencer(bundle)
    edge.set_support(
        [tmp_path / "image.png", Image.fromarray(PIT[0]), GOOD], [tmp_path / "mask.png", PIT[1] > 0, None],
        ["scratch", "pit", "good"],
    )  # fmt: skip
    before = model.model.support
    try:
        model.set_support(support_of(other, PIT, (GOOD, None), labels=["scratch", "pit", "good"]))
        query = QUERY.copy()
        query[20:28, 140:155] = 51
        found = edge.predict(query)
        assert_equal(found, model, query)
        for ours, theirs in zip(edge.support.encodings, model.model.support.encodings, strict=True):
            assert set(ours) == set(theirs)
            for name, values in theirs.items():
                np.testing.assert_allclose(ours[name], values.numpy(), rtol=1e-3, atol=1e-3, err_msg=name)
    finally:
        model.model.support = before
    assert edge.support.record == {
        "images": [str(tmp_path / "image.png"), "support image 1", "support image 2"],
        "labels": ["scratch", "pit", "good"],
        "normal": False,
    }
    edge.save_support(tmp_path / "kept.npz")
    again = SofsInferencer(bundle)
    again.load_support(tmp_path / "kept.npz")
    assert np.array_equal(again.predict(query).anomaly_map, found.anomaly_map)


def test_rejected_regions_threshold_least_area_region_and_limits_survive(model, bundle, tmp_path, caplog, monkeypatch):
    """One bundle with all that a model can be restricted by; the networks know nothing of it."""

    def copy_network(network, folder):
        for suffix in (".xml", ".bin"):
            shutil.copy(bundle / f"{network.name}{suffix}", folder)

    monkeypatch.setattr("anomalib_sofs.deploy.bundle.write_network", copy_network)
    before, threshold = model.model.support, model.model.threshold_logit
    mask = np.zeros((300, 210), np.uint8)
    mask[60:, :150] = 255
    Image.fromarray(mask).save(tmp_path / "roi.png")
    rejected = np.zeros((150, 130), np.uint8)
    rejected[100:110, 20:30] = 255
    with_stain = PIT[0].copy()
    with_stain[100:110, 20:30] = 150
    try:
        support = support_of(PIT, BUMP, labels=["pit", "bump"])
        support.reject(tensor(with_stain), torch.from_numpy(rejected))
        encoding = model.model.encode(support)
        encoding.restrict(RegionOfInterest.from_path(tmp_path / "roi.png"), 20)
        encoding.limit(torch.tensor([0.2, 1.5]))
        encoding.record |= {"good": ["a.png"], "false_alarms": 0.05}
        model.model.support, model.model.threshold_logit = encoding, 0.4
        restricted = SofsInferencer(export_bundle(model, tmp_path / "restricted"))
        assert_equal(restricted.predict(QUERY), model)
        with pytest.raises(ValueError, match=r"region of interest .* is 210 x 300 pixels, the image 130 x 150"):
            restricted.predict(PIT[0])
    finally:
        model.model.support, model.model.threshold_logit = before, threshold
    with caplog.at_level(logging.WARNING):
        restricted.set_support([PIT[0]], [PIT[1]])
    assert (
        "What 1 good images told, thresholds too, belongs to the earlier support set and counts no more." in caplog.text
    )
    assert restricted.support.least_area == 20
    assert restricted.support.roi is not None
    assert "limit" not in restricted.support.encodings[0]


def test_regions_are_rejected_on_the_line_as_in_pytorch(model, inferencer, tmp_path):
    """A file and an image that is marked elsewhere, too."""
    stained = GOOD.copy()
    stained[30:42, 50:64] = 242
    Image.fromarray(stained).save(tmp_path / "stain.png")
    region = np.zeros(stained.shape[:2], np.uint8)
    region[30:42, 50:64] = 255
    other = np.zeros(PIT[1].shape, np.uint8)
    other[100:110, 20:30] = 1
    inferencer.set_support(
        [PIT[0], BUMP[0]], [PIT[1], BUMP[1]], ["pit", "bump"], [(tmp_path / "stain.png", region), (PIT[0], other)]
    )
    assert inferencer.support.record["labels"] == ["pit", "bump", "not", "not"]
    assert inferencer.support.record["images"][2:] == [str(tmp_path / "stain.png"), "rejected image 1"]
    support = support_of(PIT, BUMP, labels=["pit", "bump"])
    support.reject(tensor(stained), torch.from_numpy(region))
    support.reject(tensor(PIT[0]), torch.from_numpy(other))
    encoded = model.model.encode(support)
    for ours, theirs in zip(inferencer.support.encodings, encoded.encodings, strict=True):
        assert set(ours) == set(theirs) >= {"rejected"}
        for name, values in theirs.items():
            np.testing.assert_allclose(ours[name], values.numpy(), rtol=1e-3, atol=1e-3, err_msg=name)
    was, model.model.support = model.model.support, encoded
    try:
        assert_equal(inferencer.predict(QUERY), model)
    finally:
        model.model.support = was
    with pytest.raises(ValueError, match="The rejected region of rejected image 0 holds pixels that are marked"):
        inferencer.set_support([PIT[0]], [PIT[1]], rejected=[(PIT[0], PIT[1])])


def test_what_validation_images_told_counts_for_other_good_parts_and_not_for_marks(inferencer, caplog):
    """As in PyTorch, where the post-processor keeps it."""
    inferencer.set_support([GOOD], [None])
    plain = inferencer.predict(QUERY)
    ranges = {"map": [0.0, 1.0, 0.9], "score": [0.0, 1.0, 0.7]}
    inferencer.use(replace(inferencer.support, ranges=ranges))
    told = inferencer.predict(QUERY)
    assert told.pred_score == pytest.approx(np.clip(plain.pred_score - 0.2, 0, 1), abs=1e-5)
    with caplog.at_level(logging.WARNING):
        inferencer.set_support([PIT[0]], [PIT[1]])
        assert not caplog.text
        marks = inferencer.predict(QUERY)
        assert marks.pred_score == pytest.approx(inferencer.raw(QUERY).score[0])
        inferencer.set_support([GOOD], [None])
        inferencer.set_support([GOOD], [None])
    assert caplog.text.count("The thresholds that validation images told with an earlier support set") == 1
    np.testing.assert_array_equal(inferencer.predict(QUERY).anomaly_map, told.anomaly_map)


@pytest.mark.parametrize("count", [1, 3])
def test_good_parts_alone_find_whatever_is_off_as_pytorch_does(model, inferencer, count):
    """Larger than what is seen whole, so that images are resized; from one image, and from several."""
    parts = [(surface(460, 300, seed=s).permute(1, 2, 0) * 255).round().byte().numpy() for s in range(count + 1)]
    query = parts.pop()
    query[200:216, 100:120] = 250
    inferencer.set_support(parts, [None] * count)
    before = model.model.support
    try:
        model.set_support(support_of(*((part, None) for part in parts)))
        found = inferencer.predict(query)
        assert_equal(found, model, query)
        assert found.pred_score > 0.5
        assert found.regions
        assert_equal(inferencer.predict(GOOD), model, GOOD)
    finally:
        model.set_support(support_of(PIT, BUMP, labels=["pit", "bump"]))
        model.model.support = before


def test_a_bundle_is_compared_on_images_of_its_support_set_and_on_good_ones(model, tmp_path, monkeypatch):
    """On random images contrast hardly shows."""
    encoding = model.model.support
    try:
        good = good_images(4)  # all have a dark patch, which would be found
        model.set_support(support_of(PIT), GoodImages(good, 0.25))
        save_image(good[0], tmp_path / "a.png")
        model.model.support.record["good"] = [str(tmp_path / "a.png")]
        monkeypatch.setattr("anomalib_sofs.runtime.inferencer.contrasted", lambda logits, _deviation: logits)
        with pytest.raises(BundleParityError, match=r"differs from PyTorch by .* on a\.png \(140 x 120 pixels\)"):
            export_bundle(model, tmp_path / "bundle")
        assert not (tmp_path / "bundle").exists()
    finally:
        model.model.support = encoding


def test_files_of_the_support_set_that_are_gone_are_named_once(model, tmp_path, caplog):
    record = model.model.support.record
    before = dict(record)
    try:
        record["images"] = [str(tmp_path / "moved.png")]
        export_bundle(model, tmp_path / "bundle")
    finally:
        record.update(before)
    said = [text for text in caplog.messages if "moved.png" in text]
    assert len(said) == 1
    assert said[0] == (
        "The bundle was not compared with PyTorch on moved.png of the support set: not a file, or gone. It was on random "
        "images; give a support set of files, where they are."
    )


def test_good_parts_are_contrast_on_the_line_as_in_pytorch(model, inferencer, tmp_path):
    before = model.model.support
    try:
        good = [tensor(GOOD), *(surface(120, 110, seed=seed) for seed in (4, 5, 6))]
        model.set_support(support_of(PIT), GoodImages(good, 0.25))
        assert model.model.support.contrast is not None
        inferencer.use(encoded(model.model.support))
        found = inferencer.predict(QUERY)
        assert_equal(found, model, QUERY)
        assert_equal(inferencer.predict(GOOD), model, GOOD)
        inferencer.save_support(tmp_path / "parts.npz")
        inferencer.set_support([PIT[0]], [PIT[1]])  # other marks: nothing is known of good parts any more
        assert inferencer.support.contrast is None
        inferencer.load_support(tmp_path / "parts.npz")
        np.testing.assert_array_equal(inferencer.predict(QUERY).anomaly_map, found.anomaly_map)
    finally:
        model.model.support = before


def test_threads_are_bound_to_no_core(inferencer):
    """Bound, those of all processes with one thread each, such as the workers of a cluster, would share a core."""
    inferencer.queue()
    networks = inferencer._networks
    for network in (networks._features, networks._normal, *networks._judges.values()):
        assert network.get_property("ENABLE_CPU_PINNING") is False


SIGNALLED = """
import signal, subprocess, sys
import numpy as np
from anomalib_sofs.runtime import SofsInferencer

made = [SofsInferencer(sys.argv[1]) for _ in range(2)]
for inferencer in made:
    inferencer.predict(np.zeros((96, 96, 3), np.uint8))
del inferencer
made.pop(0)  # the older one first
made.pop(0)
signal.signal(signal.SIGCHLD, lambda *_: print("a child has ended"))
subprocess.run(["true"])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGCHLD"), reason="there are no such signals here")
def test_a_program_that_has_let_go_of_two_inferencers_still_handles_signals(bundle):
    """OpenVINO had left the thread a signal stack that was freed; Ctrl+C was a segmentation fault, too."""
    done = subprocess.run([sys.executable, "-c", SIGNALLED, bundle], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "a child has ended\n"), done.stderr


def test_an_inferencer_that_is_let_go_of_is_gone_with_its_networks(bundle):
    """OpenVINO's queue held on to it: a page or a line that loads bundle after bundle would have kept them all."""
    inferencer = SofsInferencer(bundle)
    inferencer.predict(QUERY)
    left = weakref.ref(inferencer), weakref.ref(inferencer._networks)
    del inferencer
    gc.collect()
    assert [one() for one in left] == [None, None]


PAGE = ("first search", "a region rejected", "another image marked")


def test_benchmark_of_images_per_second_one_by_one_by_run_and_on_the_page(bundle, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("anomalib_sofs.benchmark.throughput.bundle", lambda *_: bundle)
    file = tmp_path / "x.json"
    options = "--sizes 96 --ways run,page --images 3 --workers 2 --precisions fp32 --rounds 1"
    assert main(["throughput", "--json", str(file), *options.split()]) == 0
    content = json.loads(file.read_text())
    assert content["command"] == f"python -m anomalib_sofs.benchmark throughput --json FILE {options}"
    rows = content["rows"]
    assert [(row["way"], row["precision"], row["size"], row["images"], row["workers"]) for row in rows] == [
        ("one by one", "fp32", 96, 3, 1), ("run", "fp32", 96, 3, 2),
        *((f"page, {what}", "fp32", 96, 3, min(os.cpu_count(), 4)) for what in PAGE),
    ]  # fmt: skip
    assert all(row["images_per_second"] > 0 for row in rows)
    assert all(0 < row["first_seconds"] <= row["seconds"] for row in rows[2:])
    printed = capsys.readouterr().out
    assert f"| run | fp32 | 96 | 3 | 2 | {rows[1]['images_per_second']:.2f} | - | - | - |" in printed
    assert f"| {rows[4]['first_seconds']:.1f} | {rows[4]['cpu_seconds']:.1f} |" in printed


def test_importing_the_runtime_and_the_package_imports_no_heavy_package():
    heavy = "torch", "torchvision", "anomalib", "lightning", "timm", "pandas", "scipy", "skimage"
    code = f"import sys, anomalib_sofs, anomalib_sofs.runtime.run; print(set(sys.modules) & set({heavy}))"
    assert run("python", "-c", code, cwd=REPOSITORY).stdout.strip() == "set()"
    listed = (REPOSITORY / "anomalib_sofs/runtime/requirements.txt").read_text().split()
    assert len(listed) <= 8
    assert not [name for name in listed if name.startswith(heavy)]


# -- precision ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def known_networks(bundle, monkeypatch):
    """Networks are those of the FP32 bundle: to export them again takes seconds."""

    def copy_network(network, folder):
        for suffix in (".xml", ".bin"):
            shutil.copy(bundle / f"{network.name}{suffix}", folder)

    monkeypatch.setattr("anomalib_sofs.deploy.bundle.write_network", copy_network)


def asked_for(inferencer):
    network = inferencer._networks
    return [str(part.get_property("INFERENCE_PRECISION_HINT")) for part in (network._features, network._normal)]


def told(inferencer):
    """In which precision the networks were checked, and that of their weights, as they say it themselves."""
    names = ["features", "decision"]
    infos = {name: inferencer._networks._read(name).get_rt_info("model_info") for name in names}
    keys = "inference_precision", "weights_precision"
    return {name: [str(info[key]) for key in keys] for name, info in infos.items()}


@pytest.mark.usefixtures("known_networks")
def test_a_bundle_of_bf16_asks_for_it_and_finds_what_fp32_finds(model, inferencer, tmp_path):
    support = support_of(PIT, BUMP, labels=["pit", "bump"])
    made = SofsInferencer(export_bundle(model, tmp_path / "bf16", "bf16", support=support))
    assert made.bundle.precision == "bf16"
    assert asked_for(inferencer) == ["<Type: 'float32'>", "<Type: 'float32'>"]
    assert asked_for(made)[1] == "<Type: 'float32'>"
    assert asked_for(made)[0] in {"<Type: 'bfloat16'>", "<Type: 'float32'>"}  # as the processor can
    found = made.predict(QUERY)
    assert {region["class"] for region in found.regions} == {"bump", "pit"}
    assert list(made.support.names) == list(inferencer.support.names)
    assert told(made) == {"features": ["bf16", "FP32"], "decision": ["bf16", "FP32"]}


@pytest.mark.usefixtures("known_networks")
def test_int8_is_quantised_with_images_of_the_user_and_limits_stay(model, bundle, images, tmp_path):
    support = support_of(PIT, BUMP, labels=["pit", "bump"])
    before = model.model.support
    try:
        model.model.support = model.model.encode(support)
        model.model.support.limit(torch.tensor([0.1, 0.2]))
        folder = tmp_path / "pictures"
        folder.mkdir()
        shutil.copy(images / "a.png", folder)
        made = SofsInferencer(export_bundle(model, tmp_path / "int8", "int8", support=support, calibration=folder))
    finally:
        model.model.support = before
    kinds = [op.get_type_name() for op in made._networks._read("features").get_ops()]
    assert kinds.count("FakeQuantize") > 10
    assert (tmp_path / "int8/features.bin").stat().st_size < 0.4 * (bundle / "features.bin").stat().st_size
    assert (tmp_path / "int8/normal_features.bin").read_bytes() == (bundle / "normal_features.bin").read_bytes()
    assert [float(encoding["limit"]) for encoding in made.support.encodings] == pytest.approx([0.1, 0.2])
    assert {region["class"] for region in made.predict(QUERY).regions} == {"bump", "pit"}
    assert not list((tmp_path / "int8").glob("quantised*"))
    assert told(made) == {"features": ["f32", "INT8"], "decision": ["f32", "FP32"]}


def test_int8_without_nncf_names_what_brings_it(inferencer, tmp_path, monkeypatch):
    monkeypatch.setattr("anomalib_sofs.deploy.quantisation.find_spec", lambda _: None)
    with pytest.raises(
        ModuleNotFoundError, match=r"needs NNCF, which is not installed: pip install 'anomalib\[openvino"
    ):
        quantise(inferencer, tmp_path, None, None)


@pytest.mark.usefixtures("known_networks")
def test_what_loses_the_marks_is_refused_and_leaves_nothing(model, tmp_path, monkeypatch):
    monkeypatch.setattr("anomalib_sofs.deploy.gate.MOST_LOSS", -1.0)
    support = support_of(PIT, BUMP, labels=["pit", "bump"])
    with pytest.raises(PrecisionError, match=r"BF16 loses what was marked: the overlap with the marks of 'pit' falls"):
        export_bundle(model, tmp_path / "bf16", "bf16", support=support)
    assert not list(tmp_path.iterdir())


def test_a_loss_is_one_of_five_points_or_of_an_image():
    check({"pit": Found(0.5, 2)}, {"pit": Found(0.46, 2)}, "int8")
    with pytest.raises(
        PrecisionError, match=r"INT8 .* of 'pit' falls from 50.0 % to 44.0 %, where 5 points are allowed"
    ):
        check({"pit": Found(0.5, 2)}, {"pit": Found(0.44, 2)}, "int8")
    with pytest.raises(PrecisionError, match="some of them is found on 1 images instead of 2"):
        check({"pit": Found(0.5, 2)}, {"pit": Found(0.5, 1)}, "int8")


def test_other_marks_compile_nothing_anew(inferencer):
    inferencer.predict(QUERY)
    judges = dict(inferencer._networks._judges)
    inferencer.set_support([PIT[0]], [PIT[1]])
    inferencer.predict(QUERY)
    assert inferencer._networks._judges == judges
    assert len(judges) == 1


# -- bad input ---------------------------------------------------------------------------------------------------------


def copied(bundle, tmp_path):
    return Path(shutil.copytree(bundle, tmp_path / "copy"))


def test_a_bundle_of_another_version_is_refused(bundle, tmp_path):
    copy = copied(bundle, tmp_path)
    content = json.loads((copy / NAME).read_text())
    (copy / NAME).write_text(json.dumps(content | {"version": 99}))
    with pytest.raises(BundleError, match="copy is a bundle of version 99, this package reads version 3"):
        SofsInferencer(copy)
    (copy / NAME).write_text(json.dumps(content)[:-20])
    with pytest.raises(BundleError, match=r"bundle.json cannot be read"):
        SofsInferencer(copy)


def test_a_missing_cut_or_changed_file_is_named(bundle, tmp_path):
    copy = copied(bundle, tmp_path)
    weights = copy / "features.bin"
    content = weights.read_bytes()
    weights.write_bytes(content[:1000])
    with pytest.raises(
        BundleError, match=rf"features.bin has 1000 bytes instead of {len(content)}: .* not copied whole"
    ):
        SofsInferencer(copy)
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match=r"features.bin was changed"):
        SofsInferencer(copy)
    weights.unlink()
    with pytest.raises(BundleError, match=r"features.bin is missing"):
        SofsInferencer(copy)
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist, and has no bundle.json"):
        SofsInferencer(tmp_path / "nowhere")


def test_without_a_support_set_it_says_how_to_give_one(bundle, tmp_path):
    copy = copied(bundle, tmp_path)
    (copy / "support.npz").unlink()
    content = json.loads((copy / NAME).read_text())
    del content["files"]["support.npz"]
    (copy / NAME).write_text(json.dumps(content))
    waiting = SofsInferencer(copy)
    with pytest.raises(RuntimeError, match=r"came without a support set, and none was set: call set_support"):
        waiting.predict(QUERY)
    waiting.set_support([PIT[0]], [PIT[1]])
    assert waiting.predict(QUERY).regions


@pytest.mark.parametrize("device", ["GPU", "TPU"])
def test_a_device_that_is_not_there_is_answered_with_those_that_are(bundle, device):
    with pytest.raises(DeviceError, match=rf"There is no device '{device}' here. Devices: CPU.*AUTO"):
        SofsInferencer(bundle, device)


@pytest.mark.parametrize(
    ("images", "masks", "classes", "message"),
    [
        ([PIT[0]], [], None, "1 images, 0 masks: give one of each"),
        ([PIT[0]], [PIT[1]], ["a", "b"], "1 images, 1 masks, 2 classes"),
        ([PIT[0]], [PIT[1][:-1]], None, r"The mask of support image 0 is 130 x 149 pixels, its image 130 x 150"),
        ([PIT[0].astype(float)], [PIT[1]], None, r"An image of shape \(150, 130, 3\) and type float64 is not taken"),
        ([PIT[0]], [np.full((150, 130), 255)], None, "marks the whole image"),
    ],
)
def test_marks_that_do_not_fit_are_refused_and_the_earlier_ones_stay(inferencer, images, masks, classes, message):
    before = inferencer.support
    with pytest.raises(ValueError, match=message):
        inferencer.set_support(images, masks, classes)
    assert inferencer.support is before


def test_a_support_file_that_is_none_is_refused(inferencer, tmp_path):
    (tmp_path / "x.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"x.npz is no support encoding, or was not copied whole"):
        inferencer.load_support(tmp_path / "x.npz")
    with pytest.raises(FileNotFoundError, match=r"y.npz does not exist"):
        inferencer.load_support(tmp_path / "y.npz")


def test_an_export_that_fails_leaves_the_earlier_bundle_and_nothing_else(model, bundle, tmp_path, monkeypatch):
    copy = copied(bundle, tmp_path)
    files = {path.name: path.read_bytes() for path in copy.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("anomalib_sofs.deploy.bundle.write_network", full)
    with pytest.raises(OSError, match=r"cannot be written to .*copy: No space left on device. Free some space"):
        export_bundle(model, copy)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == files
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").touch()
    with pytest.raises(BundleError, match="mine exists and is no bundle"):
        export_bundle(model, tmp_path / "mine")
    with pytest.raises(ValueError, match="precision='int4' is not possible: choose one of fp32, bf16, int8"):
        export_bundle(model, tmp_path / "new", "int4")
    with pytest.raises(ValueError, match="precision='bf16' is checked with the images of the support set"):
        export_bundle(model, tmp_path / "new", "bf16")
    assert not (tmp_path / "new").exists()


# -- the commands ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    Image.fromarray(QUERY).save(folder / "a.png")
    Image.fromarray(PIT[0]).save(folder / "b.png")
    grey = np.asarray(Image.fromarray(QUERY).convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(folder / "deep.png")
    (folder / "broken.png").write_bytes(b"\x89PNG nothing")
    return folder


def test_run_writes_what_find_writes(model, bundle, images, tmp_path):
    """The same files, from a checkpoint with the same support set by `find`."""
    done = run("anomalib-sofs", "run", bundle, images, "--out", tmp_path / "edge", cwd=tmp_path, check=False)
    assert done.returncode == 1, done.stderr
    assert "1 of 4 images could not be read and have no results" in done.stderr
    edge = tmp_path / "edge/predictions"
    assert f"Masks, maps, regions, COCO and LabelMe files: {edge}" in done.stdout
    torch.save(_checkpoint(model), tmp_path / "model.ckpt")
    done = run(
        "anomalib-sofs", "find", "-", images, "--out", tmp_path / "full", "--ckpt_path", tmp_path / "model.ckpt",
        cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    full = tmp_path / "full/predictions"
    names = {path.relative_to(full) for path in full.rglob("*") if path.suffix in {".png", ".json"}}
    pictures = {Path(f"{images.name}/{stem}.png") for stem in ("a", "b", "deep")}
    assert names - pictures == {path.relative_to(edge) for path in edge.rglob("*") if path.suffix in {".png", ".json"}}
    for name in sorted(names - pictures):
        if name.suffix == ".json":
            ours, theirs = (json.loads((folder / name).read_text()) for folder in (edge, full))
            if name.parts[0] == images.name:
                assert set(ours.pop("source")) == {"bytes", "changed", "bundle"}  # for a run that is started again
            _assert_close(ours, theirs)
        elif "labelme" not in name.parts:
            ours, theirs = (np.asarray(Image.open(folder / name)).astype(int) for folder in (edge, full))
            assert np.abs(ours - theirs).max() <= (66 if "probability" in name.name else 0)


def _checkpoint(model):
    return {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "pytorch-lightning_version": "2.5.0",
    }


def _assert_close(ours, theirs):
    if isinstance(ours, dict):
        assert set(ours) == set(theirs)
        for key in ours:
            _assert_close(ours[key], theirs[key])
    elif isinstance(ours, list):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            _assert_close(one, other)
    elif isinstance(ours, float):
        assert ours == pytest.approx(theirs, abs=1e-3)
    elif not (isinstance(ours, str) and ours.startswith("probability")):
        assert ours == theirs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("BUNDLE", "empty", "--out", "x"), "empty holds no image"),
        (("nowhere", "IMAGES", "--out", "x"), "nowhere does not exist, and has no bundle.json"),
        (("BUNDLE", "IMAGES", "--out", "file/x"), "Results cannot be written to file/x/predictions"),
        (("BUNDLE", "IMAGES", "--out", "x", "--device", "NPU"), "There is no device 'NPU' here. Devices: CPU"),
    ],
)
def test_run_says_in_one_line_what_is_wrong(bundle, images, tmp_path, arguments, message, monkeypatch, capsys):
    from anomalib_sofs.cli import main

    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("anomalib_sofs.cli.be_quiet", lambda: None)
    assert main(["run", *(str({"BUNDLE": bundle, "IMAGES": images}.get(a, a)) for a in arguments)]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith(f"anomalib-sofs run: {message}")
    assert not (tmp_path / "x").exists()


def test_a_full_disk_ends_run_and_keeps_what_was_found(bundle, images, tmp_path, monkeypatch, capsys):
    from anomalib_sofs.cli import main
    from anomalib_sofs.results.files import unwritable, write_png

    written = []

    def until_full(image, path, **options):
        if len(written) == 2:  # the map and the mask of the first image
            raise unwritable(path.parent, OSError(28, "No space left on device"))
        written.append(path)
        write_png(image, path, **options)

    monkeypatch.setattr("anomalib_sofs.cli.be_quiet", lambda: None)
    monkeypatch.setattr("anomalib_sofs.results.writer.write_png", until_full)
    assert main(["run", str(bundle), str(images), "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"anomalib-sofs run: Results cannot be written to {tmp_path / 'predictions'}")
    assert "No space left on device. Free some space" in said
    found = json.loads((tmp_path / "predictions/coco.json").read_text())
    assert [image["file_name"] for image in found["images"]] == ["a.png"]
    assert {path.name for path in (tmp_path / "predictions" / images.name).iterdir()} == {
        "a.json", "a_mask.png", "a_probability.png",
    }  # fmt: skip


def test_the_command_makes_a_bundle_from_a_support_folder(support_folder, tmp_path):
    done = run(
        "anomalib-sofs", "bundle", "--out", tmp_path / "parts", "--model.support", support_folder / "support",
        "--model.threshold", "0.7", "--model.window_size", "128", cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout.strip() == f"Bundle: {tmp_path / 'parts'} (finds defect)"
    made = SofsInferencer(tmp_path / "parts")
    assert made.bundle.threshold_logit == pytest.approx(np.log(0.7 / 0.3))
    assert made.support.record["images"] == [str(support_folder / "support/image/part.png")]
    failed = run(
        "anomalib-sofs", "bundle", "--out", "other", "--precision", "int8", cwd=tmp_path, check=False,
    )  # fmt: skip
    assert failed.returncode == 2
    assert "INT8 needs images that tell which values are usual: a support set, or --calibration FOLDER" in failed.stderr
    assert not (tmp_path / "other").exists()


class Watching:
    """`watch` in a thread of its own, until it has said so much."""

    def __init__(self, bundle, folder, out):
        self.said, self.stop = queue.Queue(), threading.Event()
        arguments = {"bundle": bundle, "folder": folder, "out": out, "say": self.said.put, "stop": self.stop}
        self.thread = threading.Thread(target=watch, kwargs=arguments, daemon=True)

    def __enter__(self):
        self.thread.start()
        return lambda: self.said.get(timeout=60)

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join(60)
        assert not self.thread.is_alive()


def test_watch_searches_what_lies_there_and_what_comes_and_goes_on_where_it_stopped(bundle, tmp_path, monkeypatch):
    pytest.importorskip("watchdog")
    monkeypatch.setattr("anomalib_sofs.runtime.watch.GRACE_S", 0.5)
    folder, out = tmp_path / "camera", tmp_path / "camera" / "results"  # results may lie below: they are no images
    folder.mkdir()
    Image.fromarray(QUERY).save(folder / "first.png")
    with Watching(bundle, folder, out) as said:
        first = said()
        assert first["image"] == str(folder / "first.png")
        assert {region["class"] for region in first["regions"]} == {"pit", "bump"}
        assert json.loads(Path(first["result"]).read_text())["regions"] == first["regions"]
        Image.fromarray(PIT[0]).save(tmp_path / "written elsewhere.png")
        (tmp_path / "written elsewhere.png").rename(folder / "second.png")
        assert said()["image"] == str(folder / "second.png")
        (folder / "broken.png").write_bytes(b"nothing")
        broken = said()
        assert "broken.png is a file of 7 bytes that is no readable image" in broken["error"]
        assert Path(broken["moved_to"]).read_bytes() == b"nothing"
    assert not (folder / "broken.png").exists()
    Image.fromarray(GOOD).save(folder / "meanwhile.png")
    Image.fromarray(GOOD).save(folder / "second.png")  # changed
    Image.fromarray(GOOD).save(folder / "first.jpg")  # does not overwrite the results of first.png
    with Watching(bundle, folder, out) as said:
        assert {Path(said()["image"]).name for _ in range(3)} == {"meanwhile.png", "second.png", "first.jpg"}
    assert {path.name for path in out.glob("*.json")} >= {
        "first.json", "first.jpg.json", "second.json", "meanwhile.json",
    }  # fmt: skip
    lines = [json.loads(line)["image"] for line in (out / "watched.jsonl").read_text().splitlines()]
    assert lines == ["first.png", "second.png", *sorted(["first.jpg", "meanwhile.png", "second.png"])]


@pytest.mark.slow
def test_the_listed_packages_and_the_wheel_are_enough(bundle, images, tmp_path):
    """A new environment with nothing but `requirements.txt` and the wheel marks, finds and writes results."""
    environment = tmp_path / "edge"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin/python"
    clean = {"PYTHONPATH": "", "PYTHONNOUSERSITE": "1"}
    wheels = tmp_path / "wheels"
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, REPOSITORY, cwd=tmp_path)
    listed = REPOSITORY / "anomalib_sofs/runtime/requirements.txt"
    run(python, "-m", "pip", "install", "--quiet", "-r", listed, cwd=tmp_path, env=clean)
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", *wheels.glob("*.whl"), cwd=tmp_path, env=clean)
    Image.fromarray(PIT[0]).save(tmp_path / "image.png")
    Image.fromarray(PIT[1]).save(tmp_path / "mask.png")
    code = (
        "import sys; from anomalib_sofs import SofsInferencer; sofs = SofsInferencer(sys.argv[1]); "
        "sofs.set_support(['image.png'], ['mask.png'], ['pit']); "
        "print([region['class'] for region in sofs.predict(sys.argv[2]).regions])"
    )
    done = run(python, "-c", code, bundle, images / "a.png", cwd=tmp_path, env=clean)
    assert "'pit'" in done.stdout
    command = environment / "bin/anomalib-sofs"
    done = run(command, "run", bundle, images, "--out", tmp_path / "out", cwd=tmp_path, env=clean, check=False)
    assert done.returncode == 1, done.stderr
    assert (tmp_path / "out/predictions/coco.json").is_file()
    assert json.loads((tmp_path / "out/predictions" / images.name / "a.json").read_text())["regions"]
