"""The benchmark over a category in the layouts that people and labelling tools leave behind."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as run_lengths

from anomalib_sofs.benchmark.__main__ import main
from anomalib_sofs.benchmark.categories import segmentation_tables
from anomalib_sofs.data.surfaces import render
from anomalib_sofs.tensors import read_mask

CLASSES = ("scratch", "pit")
SIZE = (96, 80)


def save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same six images in MVTec AD's layout, as COCO, and as images beside class-number masks.

    Image 000 shows both classes, so that one image is the support of two.
    """
    root = tmp_path_factory.mktemp("layouts")
    images, annotations = [], []
    for number in range(6):
        name = CLASSES[number % 2]
        image, mask = render("ground_steel", name, style=0, seed=number, size=SIZE)
        masks = {name: mask > 0}
        if number == 0:
            second = np.zeros(SIZE, dtype=bool)
            second[60:70, 10:20] = True
            image[second] //= 3
            masks = {"scratch": (mask > 0) & ~second, "pit": second}
        numbers = np.zeros(SIZE, dtype=np.uint8)
        file = f"{number:03}.png"
        images.append({"id": number, "file_name": file, "height": SIZE[0], "width": SIZE[1]})
        for label, marked in masks.items():
            save(image, root / f"mvtec/part/test/{label}/{file}")
            save(marked * np.uint8(255), root / f"mvtec/part/ground_truth/{label}/{number:03}_mask.png")
            numbers[marked] = CLASSES.index(label) + 1
            encoded = run_lengths.encode(np.asfortranarray(marked.astype(np.uint8)))
            segmentation = {"size": list(SIZE), "counts": encoded["counts"].decode()}
            entry = {"id": len(annotations), "image_id": number, "category_id": CLASSES.index(label), "iscrowd": 1}
            annotations.append(entry | {"segmentation": segmentation, "bbox": [0, 0, 1, 1], "area": 1})
        save(image, root / f"coco/part/{file}")
        save(image, root / f"masks/part/images/{file}")
        save(numbers, root / f"masks/part/masks/{file}")
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "coco/part/annotations.json").write_text(json.dumps(content))
    (root / "masks/part/classes.txt").write_text("\n".join(CLASSES) + "\n")
    return root


def rows(root: Path, tmp_path: Path, *more: str) -> list[dict]:
    file = tmp_path / "fss.json"
    options = ["--seeds", "0", "--weights", "relation", "--json", str(file)]
    assert main(["fss", "--root", str(root), *options, *more]) == 0
    timed = {"seconds_per_image", "backbone_ratio"}
    return [{name: v for name, v in row.items() if name not in timed} for row in json.loads(file.read_text())["rows"]]


def test_a_coco_folder_gives_the_same_numbers_as_mvtec_layout(layouts, tmp_path):
    expected = rows(layouts / "mvtec", tmp_path, "--categories", "part")
    assert {row["method"] for row in expected} == {"sofs", "discriminant", "prior"}
    assert expected[0]["queries"] == 7  # one image counts for both classes
    # so that the comparison says something; what is rendered, and with it each figure, depends on the version of numpy
    assert max(row["miou"] for row in expected) > 0.05
    assert rows(layouts / "coco", tmp_path, "--categories", "part") == expected


def test_the_root_may_be_the_category_itself(layouts):
    (alone,), (beside,) = (
        segmentation_tables(root, None, 1).items() for root in (layouts / "masks/part", layouts / "mvtec")
    )
    assert alone[0] == beside[0] == "part"
    for column in ("label", "category"):
        assert alone[1][column].tolist() == beside[1][column].tolist()
    for mask, expected in zip(alone[1]["mask_path"], beside[1]["mask_path"], strict=True):
        assert torch.equal(read_mask(mask), read_mask(expected))


def test_given_supports_are_refused(layouts, tmp_path, capsys):
    for split in ("support", "query"):
        for kind, source in (("image", "images"), ("mask", "masks")):
            shutil.copytree(layouts / "masks/part" / source, tmp_path / "part" / split / kind)
    with pytest.raises(SystemExit) as stop:
        main(["fss", "--root", str(tmp_path / "part"), "--json", str(tmp_path / "x.json")])
    assert stop.value.code == 2
    assert "Put all images into images/ and all masks into masks/." in capsys.readouterr().err


def test_anomaly_detection_takes_its_support_out_of_the_test_images(layouts, tmp_path):
    root = tmp_path / "part"
    shutil.copytree(layouts / "coco/part", root)
    content = json.loads((root / "annotations.json").read_text())
    for number in range(3):
        image, _ = render("ground_steel", None, style=0, seed=50 + number, size=SIZE)
        save(image, root / f"good_{number}.png")
        entry = {"id": 100 + number, "file_name": f"good_{number}.png", "height": SIZE[0], "width": SIZE[1]}
        content["images"].append(entry)
    (root / "annotations.json").write_text(json.dumps(content))
    file = tmp_path / "fad.json"
    assert main(["fad", "--root", str(root), "--shots", "1", "--peers", "none", "--json", str(file)]) == 0
    (row,) = json.loads(file.read_text())["rows"]
    assert row["queries"] == 8  # six defective images, one of them of two classes, and the two other good ones
    assert 0 <= row["image_auroc"] <= 1
    assert 0 <= row["pixel_auroc"] <= 1
