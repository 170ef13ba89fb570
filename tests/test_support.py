"""Support sets from folders: layouts, file kinds, and what is said about a folder that is not right."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from anomalib_sofs.images import needs_own_reader
from anomalib_sofs.model import SupportSet
from anomalib_sofs.model.examples import rows_by_class
from anomalib_sofs.tensors import read_image, read_mask

SIZE = (6, 8)  # height, width


def picture(path, value=100, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1], (value, value, value)).save(path)


def mask_file(path, pixels=1, value=255, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros(size, np.uint8)
    values.flat[:pixels] = value
    Image.fromarray(values).save(path)


def rows(support):
    """Class, grey value and number of marked pixels of each example."""
    return [
        (label, round(float(image.mean()) * 255), int(mask.sum()))
        for label, image, mask in zip(support.labels, support.images, support.masks, strict=True)
    ]


def refused(folder, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        SupportSet.from_folder(folder)


# -- layouts -------------------------------------------------------------------------------------------------------


def test_masks_are_matched_by_stem_with_or_without_mask_suffix(tmp_path):
    picture(tmp_path / "image/a.jpg", 10)
    picture(tmp_path / "image/b.png", 20)
    mask_file(tmp_path / "mask/b_mask.png", 3)
    mask_file(tmp_path / "mask/a.bmp", 2, value=1)
    support = SupportSet.from_folder(tmp_path)
    assert rows(support) == [("defect", 10, 2), ("defect", 20, 3)]
    assert support.paths == [str(tmp_path / "image/a.jpg"), str(tmp_path / "image/b.png")]
    assert support.classes == ["defect"]
    assert not support.normal


def test_normal_images_lie_in_a_folder_good_beside_the_marked_ones(tmp_path):
    picture(tmp_path / "image/a.png", 10)
    mask_file(tmp_path / "mask/a.png", 4)
    picture(tmp_path / "Good/b.png", 20)
    support = SupportSet.from_folder(str(tmp_path))
    assert rows(support) == [("defect", 10, 4), ("good", 20, 0)]
    assert not support.normal


@pytest.mark.parametrize("name", ["good", "Normal", "OK"])
@pytest.mark.parametrize("place", ["", "images/"])
def test_a_folder_called_good_holds_normal_images(tmp_path, name, place):
    for junk in ("._a.png", "Thumbs.db", ".DS_Store"):
        (tmp_path / name / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / place / junk).write_bytes(b"junk")
    picture(tmp_path / name / place / "a.png", 10)
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX/._b.png").write_bytes(b"junk")
    for folder in (tmp_path, tmp_path / name):
        support = SupportSet.from_folder(folder)
        assert rows(support) == [("good", 10, 0)]
        assert support.normal


def test_normal_may_be_said(tmp_path):
    picture(tmp_path / "a.png", 10)
    picture(tmp_path / "b.png", 20)
    support = SupportSet.from_folder(tmp_path, normal=True)
    assert rows(support) == [("good", 10, 0), ("good", 20, 0)]
    assert support.normal


def test_one_sub_folder_per_class_and_good(tmp_path):
    picture(tmp_path / "scratch/image/0.png", 10)
    mask_file(tmp_path / "scratch/mask/0.png", 1)
    picture(tmp_path / "dent/image/0.png", 20)
    mask_file(tmp_path / "dent/mask/0_mask.png", 2)
    picture(tmp_path / "good/0.png", 30)
    picture(tmp_path / ".thumbnails/0.png", 99)
    support = SupportSet.from_folder(tmp_path)
    assert rows(support) == [("dent", 20, 2), ("good", 30, 0), ("scratch", 10, 1)]
    assert support.classes == ["dent", "scratch"]
    assert rows_by_class(support.masks, support.labels) == {"dent": [0, 1], "scratch": [1, 2]}


@pytest.mark.parametrize("images", ["test/", ""])
@pytest.mark.parametrize("good_masks", [False, True])
def test_the_layout_of_mvtec(tmp_path, images, good_masks):
    for name, value in (("crack", 10), ("hole", 20)):
        picture(tmp_path / f"{images}{name}/000.png", value)
        mask_file(tmp_path / f"ground_truth/{name}/000_mask.png", 2)
    picture(tmp_path / f"{images}good/000.png", 30)
    if good_masks:
        mask_file(tmp_path / "ground_truth/good/000_mask.png", 0)
    assert rows(SupportSet.from_folder(tmp_path)) == [("crack", 10, 2), ("hole", 20, 2), ("good", 30, 0)]


def test_images_of_different_sizes_stay_as_they_are(tmp_path):
    for name, size in (("a", (5, 9)), ("b", (11, 3))):
        picture(tmp_path / f"image/{name}.png", size=size)
        mask_file(tmp_path / f"mask/{name}.png", size=size)
    assert [tuple(image.shape) for image in SupportSet.from_folder(tmp_path).images] == [(3, 5, 9), (3, 11, 3)]


def test_other_files_are_ignored(tmp_path):
    picture(tmp_path / "image/a.png", 10)
    mask_file(tmp_path / "mask/a.png", 2)
    for junk in ("image/._a.png", "image/Thumbs.db", "mask/.DS_Store", "image/notes.txt", "mask/._a.png"):
        (tmp_path / junk).write_text("x")
    assert rows(SupportSet.from_folder(tmp_path)) == [("defect", 10, 2)]


def test_from_files_reads_an_empty_mask_path_as_normal(tmp_path):
    picture(tmp_path / "a.png", 10)
    picture(tmp_path / "b.png", 20)
    mask_file(tmp_path / "m.png", 3)
    support = SupportSet.from_files([str(tmp_path / "a.png"), str(tmp_path / "b.png")], ["", str(tmp_path / "m.png")])
    assert rows(support) == [("defect", 10, 0), ("defect", 20, 3)]


# -- what is refused -------------------------------------------------------------------------------------------------


def test_a_missing_folder(tmp_path):
    refused(tmp_path / "no", FileNotFoundError, f"The support folder {tmp_path / 'no'} does not exist.")


@pytest.mark.parametrize("inner", ["", "image"])
def test_a_folder_without_images(tmp_path, inner):
    (tmp_path / inner).mkdir(exist_ok=True)
    refused(tmp_path, FileNotFoundError, f"No image in {tmp_path / inner}.")


def test_an_image_without_mask(tmp_path):
    picture(tmp_path / "image/a.png")
    picture(tmp_path / "image/b.png")
    mask_file(tmp_path / "mask/b.png")
    message = f"{tmp_path / 'image/a.png'} has no mask: expected {tmp_path / 'mask/a'}.png or a_mask.png."
    refused(tmp_path, ValueError, message)


def test_an_empty_class_folder(tmp_path):
    picture(tmp_path / "dent/image/0.png")
    mask_file(tmp_path / "dent/mask/0.png")
    (tmp_path / "scratch/image").mkdir(parents=True)
    (tmp_path / "scratch/mask").mkdir()
    refused(tmp_path, FileNotFoundError, f"No image in {tmp_path / 'scratch/image'}.")


def test_a_class_folder_without_masks(tmp_path):
    picture(tmp_path / "dent/image/0.png")
    mask_file(tmp_path / "dent/mask/0.png")
    picture(tmp_path / "hole/0.png")
    refused(tmp_path, ValueError, f"Nothing in {tmp_path / 'hole'} marks a defect: found 1 image (0.png). Add marks")


def test_an_mvtec_class_without_images(tmp_path):
    mask_file(tmp_path / "ground_truth/hole/000_mask.png")
    (tmp_path / "test/hole").mkdir(parents=True)
    refused(tmp_path, FileNotFoundError, f"No image in {tmp_path / 'test/hole'}.")
    (tmp_path / "test/hole").rmdir()
    refused(tmp_path, FileNotFoundError, f"there is no folder {tmp_path / 'test/hole'} with their images")


def test_a_mask_of_another_size(tmp_path):
    picture(tmp_path / "image/a.png")
    mask_file(tmp_path / "mask/a.png", size=(3, 4))
    message = f"The mask {tmp_path / 'mask/a.png'} is 4 x 3 pixels, its image {tmp_path / 'image/a.png'} 8 x 6."
    refused(tmp_path, ValueError, message)


def test_a_mask_that_marks_everything(tmp_path):
    picture(tmp_path / "image/a.png")
    mask_file(tmp_path / "mask/a.png", pixels=SIZE[0] * SIZE[1])
    refused(tmp_path, ValueError, f"{tmp_path / 'mask/a.png'} marks the whole image: no background to compare with.")


@pytest.mark.parametrize("bad", ["image/a.png", "mask/a.png"])
@pytest.mark.parametrize(
    ("content", "found"), [(b"", "an empty file"), (b"hello", "a file of 5 bytes that is no readable image")]
)
def test_an_unreadable_file(tmp_path, bad, content, found):
    picture(tmp_path / "image/a.png")
    mask_file(tmp_path / "mask/a.png")
    (tmp_path / bad).write_bytes(content)
    refused(tmp_path, ValueError, f"{tmp_path / bad} is {found}")


def test_a_truncated_image(tmp_path):
    path = tmp_path / "good/a.png"
    path.parent.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    refused(tmp_path, ValueError, f"{path} is a file of 2000 bytes that is no readable image")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_in_memory(value):
    image = torch.zeros(3, 4, 4)
    image[1, 2, 3] = value
    with pytest.raises(ValueError, match=r"/some/part.png holds values that are not numbers \(NaN or infinity\)"):
        SupportSet([image], [torch.zeros(4, 4)], paths=["/some/part.png"])


def test_nan_in_a_floating_point_file(tmp_path):
    values = np.full(SIZE, 0.5, np.float32)
    values[2, 2] = np.nan
    (tmp_path / "good").mkdir()
    Image.fromarray(values).save(tmp_path / "good/a.tif")
    message = f"{tmp_path / 'good/a.tif'} holds values that are not numbers (NaN or infinity) in 1 pixels. Save it as"
    refused(tmp_path, ValueError, message)


def test_an_empty_set():
    with pytest.raises(ValueError, match=r"A support set needs at least one image\."):
        SupportSet([], [])


# -- kinds of files ----------------------------------------------------------------------------------------------------


def palette() -> Image.Image:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 51, 102, 255])
    image.putdata([0, 1])
    return image


RGBA = np.array([[[0, 51, 102, 0], [255, 204, 153, 9]]], np.uint8)
KINDS = {
    "eight_bits.png": (Image.fromarray(np.array([[0, 51]], np.uint8)), [[0, 0.2]] * 3),
    "sixteen_bits.png": (Image.fromarray(np.array([[0, 13107]], np.uint16)), [[0, 0.2]] * 3),
    "sixteen_bits.tif": (Image.fromarray(np.array([[257, 65535]], np.uint16)), [[1 / 255, 1]] * 3),
    "float.tif": (Image.fromarray(np.array([[0.25, 1]], np.float32)), [[0.25, 1]] * 3),
    "rgba.png": (Image.fromarray(RGBA), [[0, 1], [0.2, 0.8], [0.4, 0.6]]),
    "grey_alpha.png": (Image.fromarray(np.array([[[0, 9], [51, 0]]], np.uint8), "LA"), [[0, 0.2]] * 3),
    "palette.png": (palette(), [[0, 0.2], [0, 0.4], [0, 1]]),
    "bilevel.png": (Image.fromarray(np.array([[False, True]])), [[0, 1]] * 3),
}


@pytest.mark.parametrize("name", KINDS)
def test_images_of_every_kind_have_the_right_values(tmp_path, name):
    image, channels = KINDS[name]
    image.save(tmp_path / name)
    read = read_image(tmp_path / name)
    assert (read.dtype, tuple(read.shape)) == (torch.float32, (3, 1, 2))
    torch.testing.assert_close(read[:, 0], torch.tensor(channels, dtype=torch.float32), atol=1e-6, rtol=0)
    assert needs_own_reader(tmp_path / name) == name.startswith(("sixteen", "float"))


@pytest.mark.parametrize(
    "name", ["eight_bits.png", "sixteen_bits.png", "palette.png", "bilevel.png", "rgba.png", "grey_alpha.png"]
)
def test_masks_of_every_kind_mark_what_is_neither_black_nor_transparent(tmp_path, name):
    KINDS[name][0].save(tmp_path / name)
    assert read_mask(tmp_path / name).tolist() == [[0, 1]]


def test_a_mask_value_of_one_counts_in_sixteen_bits(tmp_path):
    Image.fromarray(np.array([[0, 1, 256]], np.uint16)).save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png").tolist() == [[0, 1, 1]]
