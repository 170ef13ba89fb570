"""Results that machines and labelling tools read: they hold what was found, pixel by pixel."""

import json
import logging

import numpy as np
import pytest
from anomalib.data import ImageBatch, PredictDataset
from anomalib.engine import Engine
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch.utils.data import DataLoader

from anomalib_sofs import Sofs
from anomalib_sofs.annotations.coco import read_coco
from anomalib_sofs.annotations.labelme import read_labelme
from anomalib_sofs.results.coco_file import write_coco
from anomalib_sofs.results.query_names import QueryNames
from anomalib_sofs.results.writer import Result, Writer

from . import trees

NAMES = ["crack", "pit"]


def class_map(seed: int, size: tuple[int, int]) -> np.ndarray:
    """Blobs with holes, and single pixels that touch at corners, of two classes."""
    rng = np.random.default_rng(seed)
    blobs = gaussian_filter(rng.random(size), 1.5) > 0.5 if seed % 2 else rng.random(size) < 0.3
    return np.where(blobs, rng.integers(1, 3, size) if seed % 3 == 0 else 1 + seed % 2, 0)


@pytest.fixture
def written(tmp_path):
    """Results of twelve images with everything that is hard to draw: images, their class maps, the folder."""
    images, found = [], {}
    for seed in range(12):
        size = (5 + 3 * seed, 40 - 2 * seed)
        image = trees.picture(tmp_path / f"data/part {seed:02} ä.png", size, seed)
        images.append(image)
        found[image] = class_map(seed, size) if seed else np.zeros(size, int)
    names = QueryNames(map(str, images))
    writer = Writer(tmp_path / "out/predictions", tmp_path / "data")
    for image in reversed(images):
        probability = np.where(found[image] > 0, 0.75, 0.25)
        writer.write(Result(image, probability, found[image], 0.75, NAMES), names.stems[str(image)])
    write_coco(tmp_path / "out/predictions")
    return found, tmp_path / "out/predictions"


def expected(found):
    """What the readers of annotations should say: file, class, pixels."""
    marks = {
        (image.name, NAMES[i - 1]): classes == i for image, classes in found.items() for i in np.unique(classes) if i
    }
    empty = {(image.name, "good"): None for image, classes in found.items() if not classes.any()}
    return marks | empty


def assert_same(marked, wanted):
    read = {(mark.image.name, mark.label): mark.mask for mark in marked}
    assert read.keys() == wanted.keys()
    for key, mask in wanted.items():
        assert mask is None or np.array_equal(read[key] > 0, mask), key


def test_the_coco_file_is_read_back_to_the_same_masks(written, tmp_path):
    found, folder = written
    assert_same(read_coco(folder / "coco.json", tmp_path / "data", tmp_path), expected(found))
    content = json.loads((folder / "coco.json").read_text(encoding="utf-8"))
    assert content["categories"] == [
        {"id": 1, "name": "crack", "supercategory": "defect"},
        {"id": 2, "name": "pit", "supercategory": "defect"},
    ]
    assert [image["file_name"] for image in content["images"]] == [f"part {i:02} ä.png" for i in range(12)]
    assert [entry["id"] for entry in content["annotations"]] == list(range(1, len(content["annotations"]) + 1))
    assert {entry["score"] for entry in content["annotations"]} == {0.75}
    assert sum(entry["area"] for entry in content["annotations"]) == sum(
        (classes > 0).sum() for classes in found.values()
    )


def test_the_labelme_files_are_read_back_to_the_same_masks_with_the_images_beside_them(written):
    found, folder = written
    files = sorted((folder / "labelme").rglob("*.json"))
    assert [file.with_suffix(".png").read_bytes() for file in files] == [image.read_bytes() for image in found]
    assert_same((mark for file in files for mark in read_labelme(file, folder / "labelme")), expected(found))


def test_scores_outside_of_zero_to_one_are_cut_off_and_that_is_said_once(tmp_path, caplog):
    writer = Writer(tmp_path, None)
    for name in ("a", "b"):
        image = trees.picture(tmp_path / f"{name}.png", (2, 2))
        writer.write(Result(image, np.array([[-3.0, 0.5], [1.0, 47]]), np.eye(2, dtype=int), 47, ["defect"]), image)
    assert np.asarray(Image.open(tmp_path / "a.png_probability.png")).tolist() == [[0, 32768], [65535, 65535]]
    assert json.loads((tmp_path / "b.png.json").read_text())["score"] == 1.0
    assert caplog.text.count("a.png reach from -3 to 47 and are cut off at 0 and 1") == 1
    assert "b.png" not in caplog.text


def test_more_than_255_classes_keep_their_numbers(tmp_path):
    classes = np.array([[0, 300]])
    result = Result(None, classes / 300, classes, 1.0, [f"class {i}" for i in range(1, 301)])
    Writer(tmp_path, None).write(result, tmp_path / "query_00000")
    assert np.asarray(Image.open(tmp_path / "query_00000_mask.png")).tolist() == [[0, 300]]
    assert json.loads((tmp_path / "query_00000.json").read_text())["regions"][0]["class"] == "class 300"


def without_path(items):
    batch = ImageBatch.collate(items)
    batch.image_path = None
    return batch


def test_batches_without_files_and_without_post_processor_have_results(support_folder, tmp_path, caplog):
    data = PredictDataset(support_folder / "images")
    caplog.set_level(logging.WARNING)
    Engine(default_root_dir=tmp_path, accelerator="cpu", devices=1).predict(
        model=Sofs(support=support_folder / "support", post_processor=False, evaluator=False),
        dataloaders=DataLoader(data, collate_fn=without_path),
    )
    folder = next(tmp_path.rglob("predictions"))
    for number, size in enumerate([(120, 171), (160, 90)]):
        found = json.loads((folder / f"query_{number:05}.json").read_text())
        assert (found["image"], (found["height"], found["width"])) == (None, size)
        probability = np.asarray(Image.open(folder / f"query_{number:05}_probability.png"))
        mask = np.asarray(Image.open(folder / f"query_{number:05}_mask.png"))
        assert np.array_equal(mask, probability > 65535 / 2)
        assert (folder / f"query_{number:05}.png").is_file()
    names = [image["file_name"] for image in json.loads((folder / "coco.json").read_text())["images"]]
    assert names == ["query_00000", "query_00001"]
    assert caplog.text.count("do not say which files their images come from") == 1


def test_results_are_written_without_pictures_and_name_their_support(support_folder, tmp_path):
    Engine(default_root_dir=tmp_path, accelerator="cpu", devices=1).predict(
        model=Sofs(support=support_folder / "support", visualizer=False), data_path=support_folder / "images"
    )
    folder = next(tmp_path.rglob("predictions"))
    assert sorted(file.name for file in (folder / "images").iterdir()) == [
        f"{name}{ending}" for name in "01" for ending in (".json", "_mask.png", "_probability.png")
    ]
    found = json.loads((folder / "images/0.json").read_text())
    image = str(support_folder / "support/image/part.png")
    assert found["support"] == {"images": [image], "labels": ["defect"], "normal": False}
    assert found["threshold"] == 0.5
    mask = np.asarray(Image.open(folder / "images/0_mask.png"))
    assert mask.any()
    (mark,) = read_labelme(folder / "labelme/images/0.json", folder / "labelme")
    assert np.array_equal(mark.mask, mask)
    marks = read_coco(folder / "coco.json", support_folder / "images", support_folder)
    assert np.array_equal(next(marks).mask, mask)
