"""What a user does at the command line, through the real `anomalib` script."""

import json
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from anomalib_sofs import Sofs, SupportSet
from anomalib_sofs.data.surfaces import render
from anomalib_sofs.openvino_core import core
from anomalib_sofs.tensors import read_image

from .conftest import REAL_DATA, REPOSITORY, needs_real_data, pictures_folder, table
from .helpers_scripts import SCRIPTS, run

QUICK = ("--data.num_workers", "0", "--trainer.accelerator", "cpu")
EPISODES = ("--data.crop_size", "96", "--data.episodes_per_epoch", "4", *QUICK)
FSS_ROWS = {"mIoU", "FB-IoU", "image_AUROC", "pixel_AUROC"}


def train_episodes(products, cwd, *more, base="casting_0", novel="wood_0"):
    return run(
        "anomalib", "train", "--model", "Sofs", "--seed_everything", "3", "--data", "MVTecADEpisodes",
        "--data.root", products, "--data.base_categories", f"[{base}]", "--data.novel_categories", f"[{novel}]",
        *EPISODES, *more, cwd=cwd,
    )  # fmt: skip


@pytest.fixture(scope="module")
def episodic(products, tmp_path_factory):
    """One episodic training run: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("episodic")
    return folder, train_episodes(products, folder).stdout


@pytest.fixture(scope="module")
def anomaly_detection(mixed_sizes, tmp_path_factory):
    """One few-shot anomaly detection run on JPEG images of several sizes: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("fad")
    done = run(
        "anomalib", "train", "--model", "Sofs", "--model.shot", "2", "--data", "MVTecLike", "--data.root", mixed_sizes,
        "--data.category", "part", *QUICK, cwd=folder,
    )  # fmt: skip
    return folder, done.stdout


def checkpoint(folder):
    return next(folder.glob("results/Sofs/*/*/v0/weights/lightning/*.ckpt"))


def test_training_on_episodes_prints_one_table_and_says_where_pictures_are(episodic):
    folder, output = episodic
    values = table(output)
    classes = {name for name in values if name.startswith("IoU/wood_0/")}
    assert set(values) == classes | FSS_ROWS | {"image_F1Score"}
    assert values["mIoU"] == pytest.approx(np.mean([values[name] for name in classes]), abs=1e-6)
    pictures = sorted(pictures_folder(output).glob("wood_0/*/*.png"))
    assert len(pictures) == 3 * len(classes) + 3  # every defective query and every good part
    # what was marked and the largest find, then query, truth, probability and prediction, side by side
    assert 4 * 256 + 2 * 96 < Image.open(pictures[0]).width <= 6 * 256 + 5 * 6
    assert checkpoint(folder).is_file()


def test_same_seed_gives_the_same_table(episodic, products, tmp_path):
    assert table(train_episodes(products, tmp_path).stdout) == table(episodic[1])


def test_two_processes_with_larger_batches_print_the_same_table_as_one(episodic, products, tmp_path):
    folder, of_one = episodic
    of_two = run(
        "anomalib", "test", "--model", "Sofs", "--data", "MVTecADEpisodes", "--data.root", products,
        "--data.base_categories", "[casting_0]", "--data.novel_categories", "[wood_0]", *QUICK,
        "--ckpt_path", checkpoint(folder), "--trainer.strategy", "ddp", "--trainer.devices", "2",
        "--data.eval_batch_size", "4", cwd=tmp_path, env={"OMP_NUM_THREADS": "1"},
    ).stdout  # fmt: skip
    # larger batches and fewer threads round differently: a pixel just at the threshold may fall either way
    assert table(of_two) == pytest.approx(table(of_one), abs=5e-4)


def epochs_saved(root):
    """Epochs in the checkpoint of the first run below a folder; 0 where there is none yet."""
    files = list(root.glob("results/Sofs/*/*/v0/weights/lightning/*.ckpt"))
    return torch.load(files[0], weights_only=True)["epoch"] + 1 if files else 0


def test_killed_training_resumes_from_the_last_checkpoint(products, tmp_path):
    command = [
        SCRIPTS / "anomalib", "fit", "--model", "Sofs", "--data", "MVTecADEpisodes", "--data.root", products,
        "--data.base_categories", "[casting_0]", "--data.novel_categories", "[wood_0]", *EPISODES,
    ]  # fmt: skip
    with subprocess.Popen(
        [str(part) for part in [*command, "--trainer.max_epochs", "1000"]],  # a limit like any other
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        deadline = time.monotonic() + 120
        while epochs_saved(tmp_path) < 2 and time.monotonic() < deadline:
            time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
    saved = torch.load(checkpoint(tmp_path), weights_only=True)
    reached = saved["epoch"] + 1
    assert reached >= 2  # 1000 is what Lightning takes where nothing is given, but here it was given
    done = run(*command, "--trainer.max_epochs", str(reached + 1), "--ckpt_path", checkpoint(tmp_path), cwd=tmp_path)
    resumed = torch.load(next(tmp_path.glob("results/Sofs/*/*/v1/weights/lightning/*.ckpt")), weights_only=True)
    assert resumed["epoch"] == reached, done.stdout
    assert resumed["global_step"] == saved["global_step"] + 1


def test_few_shot_anomaly_detection_finds_anomalies_at_native_resolution(anomaly_detection, mixed_sizes):
    folder, output = anomaly_detection
    assert set(table(output)) == {"image_AUROC", "image_F1Score", "pixel_AUROC", "pixel_AUPRO", "pixel_F1Score"}
    state = torch.load(checkpoint(folder), weights_only=True)["state_dict"]
    assert state["model.support.0.means_0"].shape[0] == 2  # one normal space per support image
    factor = -(-256 // 155)  # small images are enlarged by a whole number
    height, width = read_image(mixed_sizes / "part/test/pit/000.jpg").shape[-2:]
    picture = Image.open(pictures_folder(output) / "pit" / "000.png")
    assert picture.height >= factor * height
    assert picture.width >= 4 * factor * width


def test_checkpoint_carries_its_support(anomaly_detection, support_folder, tmp_path):
    folder, _ = anomaly_detection
    run("anomalib", "predict", "--model", "Sofs", "--data", support_folder / "images", "--ckpt_path", checkpoint(folder),
        cwd=tmp_path)  # fmt: skip
    (result,) = tmp_path.glob("results/Sofs/*/predictions/images/0.json")
    assert json.loads(result.read_text())["height"] == 120


def test_predict_writes_maps_masks_and_regions_at_the_image_size(support_folder, tmp_path):
    done = run(
        "anomalib", "predict", "--model", "Sofs", "--model.support", support_folder / "support",
        "--data", support_folder / "images", cwd=tmp_path,
    )  # fmt: skip
    results = pictures_folder(done.stdout)
    for name, (height, width) in {"0": (120, 171), "1": (160, 90)}.items():
        probability = np.asarray(Image.open(results / "images" / f"{name}_probability.png"))
        mask = np.asarray(Image.open(results / "images" / f"{name}_mask.png"))
        data = json.loads((results / "images" / f"{name}.json").read_text())
        assert probability.shape == mask.shape == (height, width)
        assert probability.dtype == np.uint16
        assert (data["height"], data["width"]) == (height, width)
        assert np.array_equal(mask > 0, probability > 65535 / 2)
        assert sum(region["area_pixels"] for region in data["regions"]) == int((mask > 0).sum())
        assert (results / "images" / f"{name}.png").is_file()


def test_several_classes_get_a_class_map_and_a_legend(tmp_path):
    for defect, seed in (("pit", 1), ("crack", 2)):
        for kind in ("image", "mask"):
            (tmp_path / "support" / defect / kind).mkdir(parents=True)
        image, mask = render("casting", defect, style=3, seed=seed, size=(128, 128))
        Image.fromarray(image).save(tmp_path / "support" / defect / "image" / "a.png")
        Image.fromarray(mask * np.uint8(255)).save(tmp_path / "support" / defect / "mask" / "a.png")
    image, _ = render("casting", "crack", style=3, seed=3, size=(128, 128))
    Image.fromarray(image).save(tmp_path / "query.png")
    done = run("anomalib", "predict", "--model", "Sofs", "--model.support", tmp_path / "support",
               "--data", tmp_path / "query.png", cwd=tmp_path)  # fmt: skip
    folder = pictures_folder(done.stdout)
    data = json.loads(next(folder.glob("*/query.json")).read_text())
    assert data["classes"] == ["crack", "pit"]
    assert {region["class"] for region in data["regions"]} <= {"crack", "pit"}
    assert set(np.unique(np.asarray(Image.open(next(folder.glob("*/query_mask.png")))))) <= {0, 1, 2}


@pytest.fixture(scope="module")
def two_classes(products, tmp_path_factory):
    """A support folder with one break and one hole of a rendered product."""
    root = tmp_path_factory.mktemp("two_classes")
    for defect in ("break", "hole"):
        for kind, folder in (("image", "test"), ("mask", "ground_truth")):
            (root / defect / kind).mkdir(parents=True)
            file = min((products / "casting_0" / folder / defect).iterdir())
            shutil.copy(file, root / defect / kind)
    return root


def test_several_classes_get_iou_and_a_confusion_matrix(products, two_classes, tmp_path):
    done = run("anomalib", "test", "--model", "Sofs", "--model.support", two_classes, "--data", "MVTecAD",
               "--data.root", products, "--data.category", "casting_0", *QUICK, cwd=tmp_path)  # fmt: skip
    model = Sofs().eval()
    model.set_support(SupportSet.from_folder(two_classes))
    expected = np.zeros((4, 3), dtype=int)  # true: background, break, hole, another defect; found: the first three
    for file in (products / "casting_0/test").glob("*/*.png"):
        with torch.inference_mode():
            maps = model.model.predict(model.model.normalise(read_image(file))[None]).maps[0].numpy()
        found = np.where(maps.max(axis=0) > 0.5, maps.argmax(axis=0) + 1, 0)
        mask = products / "casting_0/ground_truth" / file.parent.name / f"{file.stem}_mask.png"
        truth = (np.asarray(Image.open(mask)) > 0) if mask.is_file() else np.zeros_like(found)
        truth = truth * {"break": 1, "hole": 2}.get(file.parent.name, 3)
        np.add.at(expected, (truth, found), 1)
    (saved,) = tmp_path.glob("results/Sofs/*/*/latest/classes.json")
    results = json.loads(saved.read_text())
    assert results["truth"] == ["background", "break", "hole", "other defects"]
    pixels = np.array(results["pixels"])
    assert pixels.sum(axis=1).tolist() == expected.sum(axis=1).tolist()
    assert np.abs(pixels - expected).max() <= 3  # another process may round a pixel at the threshold the other way
    iou = {
        f"IoU/{name}": pixels[i, i] / (pixels[i].sum() + pixels[:, i].sum() - pixels[i, i])
        for i, name in ((1, "break"), (2, "hole"))
    }
    printed = table(done.stdout)
    assert {name: printed[name] for name in iou} == pytest.approx(iou)
    assert printed["mIoU"] == pytest.approx(np.mean(list(iou.values())))
    assert min(iou.values()) > 0  # both classes are found, so that the numbers say something
    lines = [line.replace("│", " ").split() for line in done.stdout.splitlines()]
    assert ["break", *map(str, pixels[1]), f"{iou['IoU/break']:.4f}"] in lines
    assert (pictures_folder(done.stdout) / "break/000.png").is_file()


def test_sixteen_bit_images_are_not_turned_white(support_folder, tmp_path):
    grey = np.asarray(Image.open(support_folder / "images/0.png").convert("L")).astype(np.uint16)
    for name, pixels in (("eight", grey.astype(np.uint8)), ("sixteen", grey * 257)):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "part.png")
        run("anomalib", "predict", "--model", "Sofs", "--model.support", support_folder / "support",
            "--data", tmp_path / name, "--default_root_dir", tmp_path / f"out_{name}", cwd=tmp_path)  # fmt: skip
    maps = [
        np.asarray(Image.open(next((tmp_path / f"out_{name}").rglob("part_probability.png")))).astype(int)
        for name in ("eight", "sixteen")
    ]
    assert np.abs(maps[0] - maps[1]).max() <= 65535 * 1e-3


def test_export_of_a_marked_defect_to_openvino(support_folder, tmp_path):
    good = support_folder / "images"
    done = run("anomalib", "export", "--model", "Sofs", "--model.support", support_folder / "support",
               "--model.good", good, "--model.false_alarms", "0.5",
               "--export_type", "openvino", "--export_root", tmp_path, cwd=tmp_path)  # fmt: skip
    lines = (done.stdout + done.stderr).splitlines()
    assert len(lines) < 30, lines
    assert not [line for line in lines if "Traceback" in line or "opset" in line or "[torch.onnx]" in line]
    model = core().compile_model(tmp_path / "weights/openvino/model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    image = read_image(support_folder / "images/0.png")
    output = model(image[None].numpy())
    reference = Sofs(good=good, false_alarms=0.5).eval()
    reference.set_support(SupportSet.from_folder(support_folder / "support"))
    assert reference.model.support.record["limits"]["defect"] > 0.5
    with torch.inference_mode():
        expected = reference(image[None])
    np.testing.assert_allclose(output["anomaly_map"], expected.anomaly_map.numpy(), atol=1e-4)
    np.testing.assert_allclose(output["pred_score"], expected.pred_score.numpy(), atol=1e-4)
    assert output["pred_score"] > 0.1  # the crack is found, so that the comparison says something


def test_benchmark_knows_our_classes_by_short_name(mixed_sizes, tmp_path):
    config = {
        "accelerator": "cpu",
        "benchmark": {
            "seed": 0,
            "model": {"class_path": {"grid": ["Sofs"]}},
            "data": {
                "class_path": "MVTecLike",
                "init_args": {"root": str(mixed_sizes), "category": "part", "num_workers": 0},
            },
        },
    }
    (tmp_path / "benchmark.yaml").write_text(yaml.safe_dump(config))
    done = run("anomalib", "benchmark", "--config", "benchmark.yaml", cwd=tmp_path)
    (results,) = tmp_path.glob("runs/benchmark/*/results.csv")
    header, row = results.read_text().splitlines()
    values = dict(zip(header.split(","), row.split(","), strict=True))
    assert 0 <= float(values["image_AUROC"]) <= 1, done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--data.base_categories", "[casting_0]", "--data.novel_categories", "[cassette]"),
            "There are: casting_0, wood_0",
        ),
        (
            ("--data.base_categories", "[wood_0]", "--data.novel_categories", "[wood_0]"),
            "both a base and a novel category",
        ),
    ],
)
def test_bad_categories_end_before_training_with_the_remedy(products, tmp_path, arguments, message):
    done = run(
        "anomalib", "train", "--model", "Sofs", "--data", "MVTecADEpisodes", "--data.root", products, *arguments, *QUICK,
        cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert message in " ".join((done.stdout + done.stderr).replace("│", " ").split())
    assert not list(tmp_path.rglob("*.ckpt"))


def test_demo_config_runs_on_rendered_surfaces(tmp_path):
    done = run(
        "anomalib", "train", "--config", REPOSITORY / "configs/demo.yaml", "--data.root", tmp_path / "surfaces",
        "--data.base_categories", "[casting]", "--data.novel_categories", "[ground_steel]", "--data.images_per_class", "2",
        "--data.image_size", "128", *EPISODES, cwd=tmp_path,
    )  # fmt: skip
    assert table(done.stdout)["mIoU"] > 0.2  # the packaged head finds defects on a surface never trained on
    assert (tmp_path / "surfaces/128px-2each/ground_steel_0/test/scratch/000.png").is_file()


def test_paper_config_says_how_to_get_its_backbone_offline(products, tmp_path):
    done = run(
        "anomalib", "train", "--config", REPOSITORY / "configs/paper.yaml", "--data.root", products,
        "--data.base_categories", "[casting_0]", "--data.novel_categories", "[wood_0]", *QUICK, cwd=tmp_path, check=False,
    )  # fmt: skip
    output = " ".join((done.stdout + done.stderr).replace("│", " ").split())
    assert done.returncode != 0
    assert "The weights of backbone 'vit_base_patch14_dinov2.lvd142m' could not be loaded" in output
    assert "Offline: use one of ['tf_efficientnet_lite0'" in output


@needs_real_data
@pytest.mark.parametrize("novel", ["magnetic_tile", "steel_strip"])
def test_both_real_directions_train_and_test(tmp_path, novel):
    done = run(
        "anomalib", "train", "--config", REPOSITORY / "configs" / f"{novel}.yaml", "--data.root", REAL_DATA,
        "--data.test_limit", "1", *EPISODES, cwd=tmp_path,
    )  # fmt: skip
    values = table(done.stdout)
    assert {"mIoU", "FB-IoU", "pixel_AUROC"} <= set(values)
    # steel_strip has no normal images: an image AUROC would be meaningless and is left out
    assert ("image_AUROC" in values) == (novel == "magnetic_tile")
    assert sum(name.startswith(f"IoU/{novel}/") for name in values) == {"magnetic_tile": 5, "steel_strip": 3}[novel]
