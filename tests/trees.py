"""Tiny datasets, written in exactly the formats of the real ones."""

import base64
import csv
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (32, 40)  # height, width
BOX = (4, 6, 12, 16)  # top, left, bottom, right of every defect


def picture(path: Path, size: tuple[int, int] = SIZE, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(90, 160, (*size, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


def box(box: tuple[int, int, int, int] = BOX, size: tuple[int, int] = SIZE, value: int = 255) -> np.ndarray:
    mask = np.zeros(size, dtype=np.uint8)
    top, left, bottom, right = box
    mask[top:bottom, left:right] = value
    return mask


def save_mask(path: Path, mask: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)
    return path


def mvtec(root: Path, category: str, classes: dict[str, int], good: int = 2) -> Path:
    folder = root / category
    for i in range(good):
        picture(folder / f"train/good/{i:03}.png")
        picture(folder / f"test/good/{i:03}.png")
    for name, count in classes.items():
        for i in range(count):
            picture(folder / f"test/{name}/{i:03}.png", seed=i)
            save_mask(folder / f"ground_truth/{name}/{i:03}_mask.png", box())
    return folder


def visa_raw(root: Path, category: str, kinds: list[str], normal: int = 3) -> Path:
    """Raw VisA: CATEGORY/Data/{Images,Masks}/..., image_anno.csv, split_csv/1cls.csv."""
    rows, split = [], []
    for i in range(normal):
        name = f"{category}/Data/Images/Normal/{i:04}.JPG"
        picture(root / name)
        rows.append((name, "normal", ""))
        split.append((category, "test" if i == 0 else "train", "normal", name, ""))
    for i, kind in enumerate(kinds):
        name, mask = f"{category}/Data/Images/Anomaly/{i:03}.JPG", f"{category}/Data/Masks/Anomaly/{i:03}.png"
        picture(root / name)
        save_mask(root / mask, box(value=1))
        rows.append((name, kind, mask))
        split.append((category, "test", "anomaly", name, mask))
    with (root / category / "image_anno.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "label", "mask"), *rows])
    split_file = root / "split_csv/1cls.csv"
    split_file.parent.mkdir(exist_ok=True)
    new = not split_file.is_file()
    with split_file.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(("object", "split", "label", "image", "mask"))
        writer.writerows(split)
    return root


def polygon(box: tuple[int, int, int, int] = BOX) -> list[list[float]]:
    top, left, bottom, right = box
    return [[left, top, right, top, right, bottom, left, bottom]]


def annotation(image: int, category: int, segmentation, number: int = 0) -> dict:
    return {"id": number, "image_id": image, "category_id": category, "segmentation": segmentation, "iscrowd": 0}


def coco(
    folder: Path,
    annotations: list[dict],
    names: dict[int, str],
    images: int,
    file: str = "_annotations.coco.json",
    prefix: str = "",
    size: tuple[int, int] = SIZE,
) -> Path:
    listed = []
    for i in range(images):
        name = f"{prefix}{i:03}.png"
        picture(folder / name, size, seed=i)
        listed.append({"id": i, "file_name": name, "height": size[0], "width": size[1]})
    content = {
        "info": {"description": "VISION"},
        "annotations": annotations,  # before what they refer to, as some exporters write
        "categories": [{"id": i, "name": name, "supercategory": "defect"} for i, name in names.items()],
        "images": listed,
    }
    path = folder / file
    path.write_text(json.dumps(content))
    return path


def vision(root: Path, name: str = "Cable") -> Path:
    """One object with the classes break (polygons) and thunderbolt (run lengths), image 0 having both."""
    runs = {"size": list(SIZE), "counts": [0, 2, SIZE[0] * SIZE[1] - 2]}  # the two topmost pixels of the first column
    for split, prefix in (("train", "a"), ("val", "b")):
        folder = root / name / split
        entries = [
            annotation(0, 1, polygon(), 0),
            annotation(0, 2, runs, 1),
            annotation(1, 1, polygon((0, 0, 2, 2)), 2),
        ]
        coco(folder, entries, {1: "break", 2: "thunderbolt"}, images=3, prefix=prefix)
    return root


def defect_spectrum(root: Path) -> Path:
    (root / "DS-MVTec").mkdir(parents=True)
    (root / "DS-MVTec/DS-MVTec.md").write_text(
        "# DS-MVTec\n## defect classes\n```python\ndefects_dict = {\n    \"bottle\": {'broken_large': 1, 'contamination': 3},\n"
        "    \"wood\": {'color': 1}\n}\n```\n",
    )
    for name in ("bottle", "wood"):
        folder = root / "DS-MVTec" / name
        picture(folder / "image/good/000.png")
        for i in range(3):
            picture(folder / f"image/broken_large/{i:03}.png", seed=i)
            mask = box(value=1)
            if name == "bottle":
                mask[20:24, 20:24] = 3  # every image of broken_large shows contamination, too
            save_mask(folder / f"mask/broken_large/{i:03}_mask.png", mask)
            save_mask(folder / f"rgb_mask/broken_large/{i:03}_rgb_mask.png", np.stack([mask] * 3, axis=-1))
    flat = {
        "DS-VISION/Wood": ("DS-VISION", "Wood", {"point": 1}),
        "DS-DAGM": ("DS-DAGM", "DAGM", {"scratch": 1}),
        "DS-Cotton-Fabric": ("DS-Cotton-Fabric", "Cotton-Fabric", {"texture": 1}),
    }
    for place, (subset, name, names) in flat.items():
        for i in range(2):
            picture(root / place / f"image/{i:03}_{name}.jpg", seed=i)
            save_mask(root / place / f"mask/{i:03}_{name}_mask.png", box(value=1))
        (root / subset / f"{subset}.md").write_text(
            f"# {subset}\n## defect classes\n```python\ndefects_dict = { {name: names} }\n```"
        )
    return root


def images_masks(folder: Path, count: int = 3, plural: str = "s", masks: list[np.ndarray] | None = None) -> Path:
    for i in range(count):
        picture(folder / f"image{plural}/{i}.jpg", seed=i)
        save_mask(folder / f"mask{plural}/{i}.png", box() if masks is None else masks[i])
    return folder


def labelme(path: Path, shapes: list[dict], image: str | None = None, size: tuple[int, int] = SIZE) -> Path:
    name = image or f"{path.stem}.png"
    content = {
        "version": "5.4.1",
        "flags": {},
        "shapes": [{"group_id": None, "description": "", "flags": {}, "mask": None, **shape} for shape in shapes],
        "imagePath": name,
        "imageData": None,
        "imageHeight": size[0],
        "imageWidth": size[1],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def shape(label: str, points: list[list[float]], kind: str = "polygon", mask: np.ndarray | None = None) -> dict:
    encoded = None
    if mask is not None:
        buffer = io.BytesIO()
        Image.fromarray(mask).save(buffer, "PNG")
        encoded = base64.b64encode(buffer.getvalue()).decode()
    return {"label": label, "points": points, "shape_type": kind, "mask": encoded}


SQUARE = [[6, 4], [15, 4], [15, 11], [6, 11]]  # LabelMe's points lie on pixels, so this fills BOX


def yolo(path: Path, polygons: list[tuple[int, list[float]]], size: tuple[int, int] = SIZE) -> Path:
    """One polygon a line, x and y as shares of width and height, as Ultralytics writes them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = size
    lines = []
    for label, values in polygons:
        shares = [value / (height if place % 2 else width) for place, value in enumerate(values)]
        lines.append(" ".join([str(label), *(f"{share:.17g}" for share in shares)]))
    path.write_text("\n".join(lines) + "\n")
    return path


def coco_images(
    folder: Path,
    file: str,
    images: str,
    *,
    marked: int | None = None,
    polygon: list[float] | None = None,
    size: tuple[int, int] = SIZE,
    count: int = 3,
) -> Path:
    """A COCO file as CVAT exports it, with its images in a folder: each shows a dent in BOX."""
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        picture(folder / images / f"{i:03}.png", size, seed=i)
    outline = [polygon] if polygon else [[6, 4, 16, 4, 16, 12, 6, 12]]
    content = {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "info": {"contributor": "", "date_created": "", "description": "", "url": "", "version": "", "year": ""},
        "categories": [{"id": 1, "name": "dent", "supercategory": ""}],
        "images": [
            {"id": i + 1, "width": size[1], "height": size[0], "file_name": f"{i:03}.png", "license": 0}
            for i in range(count)
        ],
        "annotations": [
            annotation(i + 1, 1, outline, number=i + 1) | {"bbox": [6.0, 4.0, 10.0, 8.0], "area": 80.0}
            for i in range(count if marked is None else marked)
        ],
    }
    (folder / file).write_text(json.dumps(content))
    return folder
