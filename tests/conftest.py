"""Helpers for all tests: rendered data, and the numbers that the `anomalib` script prints."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomalib_sofs.data.surface_episodes import render_product
from anomalib_sofs.data.surfaces import render

REPOSITORY = Path(__file__).parent.parent
REAL_DATA = Path(os.environ.get("ANOMALIB_SOFS_DATA", REPOSITORY.parent / "shared" / "data"))
PRODUCTS = ("casting_0", "wood_0")

needs_real_data = pytest.mark.skipif(
    not REAL_DATA.is_dir(),
    reason=f"no real images at {REAL_DATA}; ANOMALIB_SOFS_DATA names another folder",
)


def table(output):
    """Read the table of results that a test prints: values by name."""
    results = output.partition("Test metric")[2]
    return {name: float(value) for name, value in re.findall(r"│\s+(\S+)\s+│\s+(-?[\d.e-]+)\s+│", results)}


def pictures_folder(output):
    """Return the folder that a run says its pictures are in."""
    return Path(re.search(r"Pictures[^:]*: (\S+)", output).group(1))


@pytest.fixture(scope="session")
def products(tmp_path_factory):
    """A folder of two rendered products in MVTec AD's layout: few images, several defect classes, 128 px."""
    root = tmp_path_factory.mktemp("products")
    for product in PRODUCTS:
        render_product(root, product, images_per_class=3, size=128)
    return root


@pytest.fixture(scope="session")
def mixed_sizes(tmp_path_factory):
    """A category for MVTecLike: JPEG images of several sizes, not one divisible by the stride; PNG masks."""
    root = tmp_path_factory.mktemp("mixed")
    sizes = [(101, 155), (140, 97), (64, 200)]
    for number, size in enumerate(sizes):
        for split, defect in (("train", None), ("test", None), ("test", "pit"), ("test", "crack")):
            image, mask = render("casting", defect, style=3, seed=10 * number + len(split), size=size)
            folder = root / "part" / split / (defect or "good")
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number:03d}.jpg", quality=95)
            if defect:
                masks = root / "part" / "ground_truth" / defect
                masks.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask * np.uint8(255)).save(masks / f"{number:03d}_mask.png")
    return root


@pytest.fixture(scope="session")
def support_folder(tmp_path_factory):
    """A support folder with one marked crack, and beside it a folder of images to search."""
    root = tmp_path_factory.mktemp("marked")
    for folder in ("support/image", "support/mask", "images"):
        (root / folder).mkdir(parents=True)
    image, mask = render("casting", "crack", style=3, seed=1, size=(150, 130))
    Image.fromarray(image).save(root / "support/image/part.png")
    Image.fromarray(mask * np.uint8(255)).save(root / "support/mask/part_mask.png")
    for number, size in enumerate([(120, 171), (160, 90)]):
        image, _ = render("casting", "crack", style=3, seed=2 + number, size=size)
        Image.fromarray(image).save(root / f"images/{number}.png")
    return root
