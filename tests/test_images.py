"""Image files: what their values mean, how they lie, how large they may be, and what is said about bad ones."""

import re
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from anomalib_sofs import SupportSet
from anomalib_sofs.images import TURNS, image_size, needs_own_reader
from anomalib_sofs.tensors import read_image


def floating(path, *values):
    Image.fromarray(np.array([values], np.float32)).save(path)
    return path


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0, 0.25, 1), (0, 0.25, 1)),
        ((0, 51, 255), (0, 0.2, 1)),
        ((0, 51, 204), (0, 0.2, 0.8)),
        ((257, 65535), (1 / 255, 1)),
    ],
)
def test_floating_point_is_scaled_by_what_it_holds(tmp_path, values, expected):
    read = read_image(floating(tmp_path / "a.tif", *values))
    torch.testing.assert_close(read, torch.tensor([[expected]]).expand(3, -1, -1), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ((0, 1.5), "{} holds floating point values up to 1.5: too many for a scale of 0 to 1, too few to tell"),
        ((-0.5, 1), "{} holds values from -0.5 to 1, but an image is 0 to 1, 0 to 255 or 0 to 65535. Save it as 8 or"),
        ((0, 1e6), "{} holds values from 0 to 1e+06, but an image is"),
        (
            (0, float("nan")),
            "{} holds values that are not numbers (NaN or infinity) in 1 pixels. Save it as 8 or 16-bit",
        ),
    ],
)
def test_floating_point_whose_scale_cannot_be_told(tmp_path, values, found):
    path = floating(tmp_path / "a.tif", *values)
    with pytest.raises(ValueError, match=re.escape(found.format(path))):
        read_image(path)


def test_colours_in_floating_point_name_the_remedy(tmp_path):
    # header, one strip of one pixel of three 32-bit floats, and the twelve tags that say so
    data = struct.pack("<3f", 0.1, 0.2, 0.3)
    tags = [
        (256, 3, 1),
        (257, 3, 1),
        (258, 3, 32),
        (259, 3, 1),
        (262, 3, 2),
        (273, 4, 8),
        (277, 3, 3),
        (278, 3, 1),
        (279, 4, 12),
        (339, 3, 3),
    ]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    content = b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + b"\0" * 4
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    message = (
        f"{path} is a TIFF file with pixels of a kind that is not read, such as floating point colours. Save it as"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        read_image(path)


def test_images_above_the_limit_of_pillow_are_read_and_the_limit_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for suffix in ("png", "jpg", "tif", "webp"):
        path = tmp_path / f"a.{suffix}"
        Image.new("RGB", (40, 30), (51, 51, 51)).save(path)
        assert image_size(path) == (30, 40)
        assert read_image(path).shape == (3, 30, 40)
        with pytest.raises(Image.DecompressionBombError):
            Image.open(path).load()


def test_images_that_are_too_large_name_file_size_and_remedy(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    path = tmp_path / "a.png"
    header = struct.pack(">IIBBBBB", 50_000, 40_000, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    )
    message = (
        f"{path} has 50000 x 40000 = 2,000 million pixels, at most 1,000 million are read. Cut it into several images."
    )
    for read in (read_image, image_size):
        with pytest.raises(ValueError, match=re.escape(message)):
            read(path)


@pytest.mark.parametrize("orientation", [1, *TURNS])
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_sizes_are_those_of_the_upright_image(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (7, 5)).save(path, exif=exif)
    assert image_size(path) == ((7, 5) if orientation >= 5 else (5, 7)) == tuple(read_image(path).shape[1:])
    # Pillow turns TIFF files by itself
    assert needs_own_reader(path) == (orientation > 1 and suffix != "tif")


# -- in memory ---------------------------------------------------------------------------------------------------------

MASK = torch.zeros(4, 5)
MASK[1, 1] = 1


def test_eight_bits_in_memory_are_scaled():
    image = torch.full((3, 4, 5), 51, dtype=torch.uint8)
    support = SupportSet([image], [MASK])
    assert support.images[0].dtype == torch.float32
    torch.testing.assert_close(support.images[0], torch.full((3, 4, 5), 0.2))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.full((3, 4, 5), 200.0), "a.png holds values from 200 to 200, but support images are floating point in"),
        (torch.full((3, 4, 5), -1.0), "a.png holds values from -1 to -1, but"),
        (torch.zeros(3, 4, 5, dtype=torch.int64), "a.png holds torch.int64, but support images are floating point"),
        (torch.zeros(4, 5, 3), "a.png has the shape (4, 5, 3), but support images are (3, H, W). Change its axes."),
        (torch.zeros(4, 5), "a.png has the shape (4, 5), but"),
        (torch.zeros(3, 4, 6), "The mask of a.png is 5 x 4 pixels, its image 6 x 4."),
    ],
)
def test_images_in_memory_that_are_not_in_zero_to_one(image, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        SupportSet([image], [MASK], paths=["a.png"])


def test_a_mask_in_memory_that_marks_everything():
    for mask in (torch.ones(4, 5), torch.full((4, 5), 255, dtype=torch.uint8)):
        with pytest.raises(ValueError, match=r"The mask of a\.png marks the whole image: no background"):
            SupportSet([torch.zeros(3, 4, 5)], [mask], paths=["a.png"])


def test_masks_in_memory():
    black_and_white = (MASK * 255).to(torch.uint8)
    ignoring = MASK.to(torch.uint8)
    ignoring[0] = 255
    images = [torch.zeros(3, 4, 5)] * 4
    support = SupportSet(images, [black_and_white, ignoring, MASK > 0, MASK * 0])
    assert [mask.dtype for mask in support.masks] == [torch.uint8] * 4
    expected = [MASK.tolist(), ignoring.tolist(), MASK.tolist(), (MASK * 0).tolist()]
    assert [mask.tolist() for mask in support.masks] == expected
    assert len(support.marked.images) == 3
    assert SupportSet(images[:1], [MASK * 0]).normal
