"""What people hand over as marked images: the same folder supports, and trains through FolderEpisodes."""

import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from anomalib_sofs import SupportSet
from anomalib_sofs.annotations.reader import recognise
from anomalib_sofs.data import FolderEpisodes
from anomalib_sofs.images import TURNS

from . import trees
from .helpers_data import KWARGS

MARKED = trees.box() > 0
COUNT = 3  # images of each tree


def named(folder, form, *, label="labels"):
    """Write three marked images in one of the forms that people use."""
    for i in range(COUNT):
        where = {"beside": folder, "labelme beside": folder, "yolo beside": folder}.get(form, folder / "images")
        trees.picture(where / f"part{i}.png", seed=i)
        if form == "masks":
            trees.save_mask(folder / label / f"part{i}.png", trees.box())
        elif form == "beside":
            trees.save_mask(folder / f"part{i}_mask.png", trees.box())
        elif form == "labelme beside":
            trees.labelme(folder / f"part{i}.json", [trees.shape("dent", trees.SQUARE)])
        elif form == "labelme":
            trees.labelme(
                folder / label / f"part{i}.json", [trees.shape("dent", trees.SQUARE)], f"..\\images\\part{i}.png"
            )
        elif form in {"yolo", "yolo beside"}:
            trees.yolo((folder / label if form == "yolo" else folder) / f"part{i}.txt", [(0, trees.polygon()[0])])
    return folder


def forms(folder: Path) -> dict[str, tuple[str, Path]]:
    """Write every form; the class that each marks, and its folder."""
    for images in ("image", "images"):
        for masks in ("mask", "masks", "label", "labels"):
            where = folder / f"{images}_{masks}"
            named(where, "masks", label=masks)
            (where / "images").rename(where / images)
    trees.coco_images(folder / "coco_beside", "labels.json", "")
    trees.coco_images(folder / "coco_images", "labels.json", "images")
    trees.coco_images(folder / "cvat", "annotations/instances_default.json", "images")
    trees.coco_images(folder / "cvat_subset", "annotations/instances_default.json", "images/default")
    trees.coco_images(folder / "coco_train", "annotations/instances_train.json", "train")
    named(folder / "labelme_beside", "labelme beside")
    named(folder / "labelme_labels", "labelme")
    named(folder / "labelme_json", "labelme", label="json")
    named(folder / "yolo", "yolo")
    (folder / "yolo/data.yaml").write_text("path: .\ntrain: images\nnames:\n  0: dent\n")
    named(folder / "yolo_list", "yolo")
    (folder / "yolo_list/data.yaml").write_text("nc: 1\nnames: ['dent']\n")
    named(folder / "yolo_beside", "yolo beside")
    (folder / "yolo_beside/classes.txt").write_text("dent\n")
    named(folder / "mask_beside", "beside")
    for i in range(COUNT):
        for place in ("mvtec/test/dent", "mvtec_flat/dent"):
            trees.picture(folder / place / f"part{i}.png", seed=i)
            trees.save_mask(folder / place.split("/")[0] / "ground_truth/dent" / f"part{i}_mask.png", trees.box())
    named(folder / "classes/dent", "masks", label="mask")
    trees.picture(folder / "classes/good/ok.png")
    nameless = {where.name: "defect" for where in folder.iterdir() if where.name.startswith(("image", "mask"))}
    return {where.name: (nameless.get(where.name, "dent"), where) for where in folder.iterdir()}


def test_every_form_supports_and_trains(tmp_path):
    written = forms(tmp_path)
    assert len(written) == 23
    for form, (label, folder) in written.items():
        support = SupportSet.from_folder(folder)
        marked = support.marked
        assert marked.classes == [label], form
        assert [Path(path).name for path in marked.paths] in (
            [f"part{i}.png" for i in range(COUNT)],
            [f"{i:03}.png" for i in range(COUNT)],
        ), form
        assert all((mask.numpy() == MARKED).all() for mask in marked.masks), form
        module = FolderEpisodes(folder, cache_dir=tmp_path / "cache", **KWARGS)
        module.setup()
        assert module.class_names == [f"{form}/{label}"]
        queries = [item for item in module.test_data if item.counted]
        assert [Path(item.image_path).name for item in queries] == [Path(path).name for path in marked.paths], form
        assert all((item.gt_mask.numpy() == MARKED).all() for item in queries), form


def test_reading_needs_no_torch():
    program = (
        "import sys, types; package = types.ModuleType('anomalib_sofs'); package.__path__ = sys.argv[1:]; "
        "sys.modules['anomalib_sofs'] = package; import anomalib_sofs.annotations.reader; "
        "print(*{'torch', 'anomalib', 'pandas', 'scipy', 'cv2'} & set(sys.modules))"
    )
    package = Path(sys.modules["anomalib_sofs"].__file__).parent
    command = [sys.executable, "-c", program, str(package)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("\n", "")


# -- what looked marked and was taken for normal ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("marks", "found"),
    [
        (["image/s.png", "msk/s.png"], "image/ (1 image), msk/ (1 image)"),
        (["s.png", "s.xml"], "1 image (s.png), 1 other file (s.xml)"),
        (["s.png", "a.json"], "1 image (s.png), 1 other file (a.json)"),
        (["s.png", "Thumbs.db", ".DS_Store", "._t.png"], "1 image (s.png)"),
    ],
)
def test_a_folder_without_marks_is_an_error_that_says_what_is_in_it(tmp_path, marks, found):
    for name in marks:
        if name.endswith(".png") and not name.startswith("."):
            trees.picture(tmp_path / name)
        else:
            (tmp_path / name).write_text("{}")
    message = f"Nothing in {tmp_path} marks a defect: found {found}. Add marks (image/ beside mask/"
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        SupportSet.from_folder(tmp_path)
    assert "put them into a folder called 'good' or say so: normal=True" in str(caught.value)


def empty_masks():
    transparent = np.zeros((*trees.SIZE, 4), np.uint8)
    return {
        "unpainted": (np.zeros(trees.SIZE, np.uint8), "is empty (every pixel is normal)"),
        "unpainted layer": (transparent, "is empty (every pixel is normal)"),
    }


@pytest.mark.parametrize("kind", empty_masks())
def test_an_empty_mask_is_an_error_in_a_support_and_a_normal_image_in_data(tmp_path, kind):
    mask, found = empty_masks()[kind]
    trees.images_masks(tmp_path)
    trees.save_mask(tmp_path / "masks/1.png", mask)
    message = f"Nothing is marked on the support image {tmp_path / 'images/1.jpg'}: its mask {tmp_path / 'masks/1.png'} {found}"
    with pytest.raises(ValueError, match=re.escape(message)):
        SupportSet.from_folder(tmp_path)
    module = FolderEpisodes(tmp_path, **KWARGS)
    module.setup()
    assert [row.label for row, _, _ in module.test_data.episodes] == ["defect", "defect", "good"]


@pytest.mark.parametrize("form", ["labelme", "coco", "yolo", "yolo without a file"])
def test_an_image_on_which_nothing_is_marked(tmp_path, form):
    if form == "labelme":
        named(tmp_path, "labelme beside")
        trees.labelme(tmp_path / "part1.json", [])
        found = f"{tmp_path / 'part1.png'}: {tmp_path / 'part1.json'} marks nothing on it"
    elif form == "coco":
        trees.coco_images(tmp_path, "labels.json", "images", marked=COUNT - 1)
        found = f"{tmp_path / 'images/002.png'}: {tmp_path / 'labels.json'} marks nothing on it"
    else:
        named(tmp_path, "yolo")
        file = tmp_path / "labels/part1.txt"
        file.unlink() if "without" in form else file.write_text("")
        what = f"its label file {file} does not exist" if "without" in form else f"{file} marks nothing on it"
        found = f"{tmp_path / 'images/part1.png'}: {what}"
    with pytest.raises(ValueError, match=re.escape(f"Nothing is marked on the support image {found}")):
        SupportSet.from_folder(tmp_path)
    module = FolderEpisodes(tmp_path, **KWARGS)
    module.setup()
    assert [row.label == "good" for row, _, _ in module.test_data.episodes] == [False, False, True]


def test_marks_on_images_that_were_handed_over_as_normal(tmp_path):
    trees.images_masks(tmp_path / "good", 1)
    message = f"{tmp_path / 'good/images/0.jpg'} was handed over as normal, but {tmp_path / 'good/masks/0.png'} marks"
    for folder, normal in ((tmp_path, False), (tmp_path / "good", False), (tmp_path, True)):
        with pytest.raises(ValueError, match=re.escape(message)):
            SupportSet.from_folder(folder, normal=normal)


def test_marks_in_several_forms_are_not_left_out_in_silence(tmp_path, caplog):
    named(tmp_path, "masks", label="masks")
    named(tmp_path, "yolo")
    assert SupportSet.from_folder(tmp_path).classes == ["defect"]
    assert "Read are the masks in masks/, left out the YOLO text files in labels/" in caplog.text


def test_images_that_a_coco_file_does_not_list_are_named(tmp_path, caplog):
    trees.coco_images(tmp_path, "labels.json", "images")
    trees.picture(tmp_path / "images/more.png")
    assert len(SupportSet.from_folder(tmp_path).images) == COUNT
    assert f"1 images are not listed in {tmp_path / 'labels.json'} and are left out" in caplog.text
    assert str(tmp_path / "images/more.png") in caplog.text


def test_a_mask_over_nearly_everything_looks_inverted(tmp_path, caplog):
    trees.picture(tmp_path / "image/s.png", (40, 40))
    mask = np.full((40, 40), 255, np.uint8)
    mask[0, :10] = 0  # 99.4 % are marked
    trees.save_mask(tmp_path / "mask/s.png", mask)
    for _ in range(2):
        SupportSet.from_folder(tmp_path)
    said = [record for record in caplog.records if "looks inverted" in record.message]
    assert len(said) == 1
    assert said[0].levelno == logging.WARNING
    assert f"The mask of {tmp_path / 'image/s.png'} marks 99.4 % of the image" in said[0].message


# -- kinds of masks --------------------------------------------------------------------------------------------------


def mask_of(folder, mask, **options):
    trees.picture(folder / "image/s.png", mask.size[::-1])
    (folder / "mask").mkdir(exist_ok=True)
    mask.save(folder / options.pop("name", "mask/s.png"), **options)
    return SupportSet.from_folder(folder)


def test_colours_of_a_palette_decide(tmp_path):
    mask = Image.fromarray(trees.box()).convert("RGB").quantize(2)
    white_first = mask.remap_palette([1, 0] if mask.getpalette()[:3] == [0, 0, 0] else [0, 1])
    assert white_first.getpalette()[:6] == [255, 255, 255, 0, 0, 0]
    assert (mask_of(tmp_path, white_first).masks[0].numpy() == MARKED).all()


def voc_palette(values):
    mask = Image.fromarray(values, "P")
    colours = np.zeros((256, 3), np.uint8)
    colours[1:3] = [[128, 0, 0], [0, 128, 0]]
    colours[255] = [224, 224, 192]
    mask.putpalette(colours.flatten().tolist())
    return mask


@pytest.mark.parametrize("names", [None, "dent\n", "_background_\ndent\n", "__ignore__\n_background_\ndent\n"])
@pytest.mark.parametrize("palette", [False, True])
def test_255_beside_class_numbers_is_ignored(tmp_path, names, palette):
    tmp_path = tmp_path / "set/cup"
    tmp_path.mkdir(parents=True)
    values = trees.box(value=1)
    values[0, :] = 255
    mask = voc_palette(values) if palette else Image.fromarray(values)
    only_ignored = np.where(values == 255, 255, 0).astype(np.uint8)
    if names:
        (tmp_path / "classes.txt").write_text(names)
    support = mask_of(tmp_path, mask)
    assert support.classes == ["dent" if names else "defect"]
    assert (support.masks[0].numpy() == values).all()
    for i in range(3):
        trees.picture(tmp_path / f"image/q{i}.png")
        trees.save_mask(tmp_path / f"mask/q{i}.png", values if i else only_ignored)
    module = FolderEpisodes(tmp_path, **KWARGS)
    module.setup()
    items = {Path(item.image_path).stem: item for item in module.test_data}
    assert items["q0"].gt_label.item() is False
    for name, item in items.items():
        assert (item.gt_mask.numpy() == (MARKED if name != "q0" else 0)).all(), name
        assert item.ignore_mask.dtype.is_floating_point is False
        assert (item.ignore_mask.numpy() == (values == 255)).all(), name
    batch = module.test_data.collate_fn([items["q0"], items["q1"]])
    assert (batch.ignore_mask.numpy() == (values == 255)).all()
    train = FolderEpisodes(tmp_path.parent, base_categories=[tmp_path.name], crop_size=16, num_workers=0)
    train.setup()
    for group in (train.train_data[number] for number in range(4)):
        for item in group if isinstance(group, list) else [group]:
            assert set(item.gt_mask.unique().tolist()) <= {0, 1}
            assert item.ignore_mask is None or not bool((item.gt_mask.bool() & item.ignore_mask).any())


def test_black_and_white_masks_stay_binary_whatever_stands_for_white(tmp_path):
    trees.images_masks(tmp_path, 2, masks=[trees.box(value=1), trees.box(value=255)])
    support = SupportSet.from_folder(tmp_path)
    assert support.classes == ["defect"]
    assert all((mask.numpy() == MARKED).all() for mask in support.masks)


def test_lossy_masks_are_cut_at_half_with_a_warning(tmp_path, caplog):
    pixels = trees.box((5, 9, 18, 23))
    for suffix in ("jpg", "webp"):
        mask = mask_of(tmp_path / suffix, Image.fromarray(pixels), name=f"mask/s.{suffix}", quality=75).masks[0].numpy()
        assert mask.sum() == 182
        assert f"{tmp_path / suffix / f'mask/s.{suffix}'} is a mask in a lossy format" in caplog.text
    caplog.clear()
    kept = mask_of(tmp_path / "kept", Image.fromarray(pixels), name="mask/s.webp", lossless=True)
    assert (kept.masks[0].numpy() == (pixels > 0)).all()
    assert "lossy" not in caplog.text


@pytest.mark.parametrize("colour", [0, 255])
def test_transparency_decides_where_colours_do_not(tmp_path, colour):
    pixels = np.full((*trees.SIZE, 4), colour, np.uint8)
    pixels[:, :, 3] = trees.box()
    assert (mask_of(tmp_path, Image.fromarray(pixels)).masks[0].numpy() == MARKED).all()


# -- orientation -----------------------------------------------------------------------------------------------------


def turned_photo(path, upright, orientation):
    """Save a picture as a turned camera does: the stored pixels are the upright ones when the tag is followed."""
    inverse = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}[orientation]
    stored = Image.fromarray(upright).transpose(TURNS[inverse])
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    stored.save(path, exif=exif)
    assert (np.asarray(ImageOps.exif_transpose(Image.open(path))) == upright).all()
    return stored


def stored_view(mask, orientation):
    inverse = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}[orientation]
    return np.asarray(Image.fromarray(mask).transpose(TURNS[inverse]))


sizes = st.tuples(st.integers(4, 12), st.integers(4, 12))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=sizes,
    orientation=st.sampled_from(sorted(TURNS)),
    seed=st.integers(0, 99),
    suffix=st.sampled_from(["png", "tif"]),
)
def test_photos_are_turned_upright_and_masks_lie_on_what_they_mark(tmp_path_factory, size, orientation, seed, suffix):
    folder = tmp_path_factory.mktemp("turned")
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)
    mask = (np.random.default_rng(seed).random(size) < 0.4).astype(np.uint8)
    mask.flat[:2] = 0, 1
    turned_photo(folder / f"image/s.{suffix}", pixels, orientation)
    trees.save_mask(folder / "mask/s.png", mask * 255)
    support = SupportSet.from_folder(folder)
    assert (support.images[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8).tolist() == pixels.tolist()
    assert support.masks[0].numpy().tolist() == mask.tolist()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=sizes, orientation=st.sampled_from(sorted(TURNS)), on_stored=st.booleans(), data=st.data())
def test_annotations_of_either_view_land_on_the_same_pixels(tmp_path_factory, size, orientation, on_stored, data):
    folder = tmp_path_factory.mktemp("views")
    mask = np.zeros(size, np.uint8)
    y, x = data.draw(st.integers(0, size[0] - 2)), data.draw(st.integers(0, size[1] - 2))
    mask[y : y + 2, x : data.draw(st.integers(x + 1, size[1] - 1))] = 1
    turned_photo(folder / "s.png", np.zeros((*size, 3), np.uint8), orientation)
    drawn = stored_view(mask, orientation) if on_stored else mask
    rows, columns = np.nonzero(drawn)
    box = (int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1)
    entry = trees.annotation(0, 1, trees.polygon(box))
    content = {
        "images": [{"id": 0, "file_name": "s.png", "height": drawn.shape[0], "width": drawn.shape[1]}],
        "annotations": [entry],
        "categories": [{"id": 1, "name": "dent"}],
    }
    (folder / "labels.json").write_text(json.dumps(content))
    read = SupportSet.from_folder(folder).masks[0].numpy()
    sizes_tell = drawn.shape != mask.shape
    assert read.tolist() == (mask if sizes_tell or not on_stored else drawn).tolist()


def test_where_the_size_does_not_tell_the_view_it_is_said(tmp_path, caplog):
    turned_photo(tmp_path / "image/s.png", np.zeros((*trees.SIZE, 3), np.uint8), 3)
    trees.save_mask(tmp_path / "mask/s.png", trees.box())
    assert (SupportSet.from_folder(tmp_path).masks[0].numpy() == MARKED).all()
    assert "image/s.png and perhaps others beside it are turned by their EXIF orientation (3)" in caplog.text


def test_a_mask_of_the_stored_view_names_the_remedy(tmp_path):
    turned_photo(tmp_path / "image/s.png", np.zeros((*trees.SIZE, 3), np.uint8), 6)
    trees.save_mask(tmp_path / "mask/s.png", trees.box().T)
    message = (
        "is 32 x 40 pixels, its image {} 40 x 32 when turned upright by its EXIF orientation (6; stored as 32 x 40). "
        "The mask was drawn on the stored view: turn it"
    ).format(tmp_path / "image/s.png")
    with pytest.raises(ValueError, match=re.escape(message)):
        SupportSet.from_folder(tmp_path)
    for i in range(2):
        trees.picture(tmp_path / f"image/{i}.png")
        trees.save_mask(tmp_path / f"mask/{i}.png", trees.box())
    with pytest.raises(ValueError, match=re.escape(message)):
        FolderEpisodes(tmp_path).setup()


# -- LabelMe and YOLO ------------------------------------------------------------------------------------------------


def labelme_support(folder, shapes):
    trees.picture(folder / "s.png")
    trees.labelme(folder / "s.json", shapes)
    return SupportSet.from_folder(folder)


def test_an_oriented_rectangle_is_a_polygon(tmp_path):
    support = labelme_support(tmp_path, [trees.shape("dent", trees.SQUARE, "oriented_rectangle")])
    assert (support.masks[0].numpy() == MARKED).all()


def test_a_label_may_be_a_number(tmp_path):
    assert labelme_support(tmp_path, [trees.shape(7, trees.SQUARE)]).classes == ["7"]


def test_shapes_that_are_no_class(tmp_path):
    inner = [[8, 6], [9, 6], [9, 7], [8, 7]]
    away = [[30, 20], [32, 20], [32, 22], [30, 22]]
    support = labelme_support(
        tmp_path,
        [
            trees.shape("dent", trees.SQUARE),
            trees.shape("_background_", inner),
            trees.shape("__ignore__", away),
        ],
    )
    expected = trees.box(value=1)
    expected[6:8, 8:10] = 0
    expected[20:23, 30:33] = 255
    assert support.classes == ["dent"]
    assert support.masks[0].numpy().tolist() == expected.tolist()


@pytest.mark.parametrize("label", ["Good", "ok", "normal"])
def test_a_mark_called_normal(tmp_path, label):
    with pytest.raises(ValueError, match=re.escape(f"Shape 0 in {tmp_path / 's.json'} has the label {label!r}")):
        labelme_support(tmp_path, [trees.shape(label, trees.SQUARE)])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.1 0.1", "Line 2 in {} tells a box: boxes alone are not enough"),
        ("0 10 10 20 10 20 20", "Line 2 in {} holds coordinates up to 20, but they should be shares"),
        ("0 0.1 0.1 0.2 0.1 0.2", "Line 2 in {} holds 6 numbers"),
        ("9 0.1 0.1 0.2 0.1 0.2 0.2", "{} holds class 9, which has no name in"),
    ],
)
def test_bad_lines_of_yolo(tmp_path, line, message):
    named(tmp_path, "yolo")
    (tmp_path / "data.yaml").write_text("names: [dent]")
    file = tmp_path / "labels/part1.txt"
    file.write_text(file.read_text() + line + "\n")
    with pytest.raises(ValueError, match=re.escape(message.format(file))):
        SupportSet.from_folder(tmp_path)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), height=st.integers(6, 40), width=st.integers(6, 40))
def test_yolo_and_coco_draw_the_same_polygon(tmp_path_factory, data, height, width):
    folder = tmp_path_factory.mktemp("polygon")
    corner = st.tuples(st.integers(0, width - 1), st.integers(0, height - 1))
    points = data.draw(st.lists(corner, min_size=3, max_size=6))
    polygon = [value + 0.25 for point in points for value in point]  # not where rounding decides
    trees.coco_images(folder / "coco", "labels.json", "images", polygon=polygon, size=(height, width), count=1)
    trees.picture(folder / "yolo/images/000.png", (height, width))
    trees.yolo(folder / "yolo/labels/000.txt", [(0, polygon)], (height, width))
    coco, yolo = (SupportSet.from_folder(folder / form).masks[0].numpy() for form in ("coco", "yolo"))
    assert coco.any()
    assert coco.tolist() == yolo.tolist()


def test_ultralytics_splits(tmp_path):
    for split in ("train", "val"):
        trees.picture(tmp_path / f"images/{split}/{split}0.png")
        trees.yolo(tmp_path / f"labels/{split}/{split}0.txt", [(1, trees.polygon()[0])])
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: {0: dent, 1: hole}\n")
    support = SupportSet.from_folder(tmp_path)
    assert support.classes == ["hole"]
    assert [Path(path).name for path in support.paths] == ["train0.png", "val0.png"]


# -- folders of data -------------------------------------------------------------------------------------------------


def test_support_and_query_in_any_form(tmp_path):
    named(tmp_path / "part/support", "labelme beside")
    trees.picture(tmp_path / "part/support/good/g.png")
    trees.coco_images(tmp_path / "part/query", "labels.json", "images", marked=2)
    module = FolderEpisodes(tmp_path / "part", **KWARGS)
    module.setup()
    assert module.class_names == ["part/dent"]
    items = list(module.test_data)
    assert [bool(item.counted) for item in items] == [True, True, False]
    assert {Path(path).name for path in items[0].support_paths} == {"g.png", *(f"part{i}.png" for i in range(COUNT))}
    assert sorted(map(bool, items[0].support_mask_paths)) == [False, True, True, True]


def test_a_query_class_without_support(tmp_path):
    named(tmp_path / "support", "masks", label="mask")
    named(tmp_path / "query", "labelme beside")
    with pytest.raises(ValueError, match=r"query shows 'dent', but .*support shows 'defect'\. Name the classes alike"):
        FolderEpisodes(tmp_path).setup()


def test_folders_of_operating_systems_are_no_classes_and_no_categories(tmp_path):
    category = trees.mvtec(tmp_path, "cup", {"dent": 2})
    (category / "test/good").rename(category / "test/Good")
    for place in ("test/__MACOSX", "test/dent", "ground_truth/dent", "train/good", "ground_truth/.Trash"):
        (category / place).mkdir(exist_ok=True)
        (category / place / "._000.png").write_bytes(b"junk")
        (category / place / "Thumbs.db").write_bytes(b"junk")
    (tmp_path / "__MACOSX/cup/images").mkdir(parents=True)
    module = FolderEpisodes(tmp_path, **KWARGS)
    module.setup()
    assert module.list_categories() == ["cup"]
    assert [row.label for row, _, _ in module.test_data.episodes] == ["dent", "dent", "good", "good"]


def test_links_that_leave_the_category_but_not_the_root_are_taken(tmp_path):
    category = trees.mvtec(tmp_path, "cup", {"dent": 3})
    other = trees.mvtec(tmp_path, "mug", {"hole": 3})
    link = category / "test/dent/002.png"
    link.unlink()
    link.symlink_to(other / "test/hole/002.png")
    for place in ("test", "ground_truth"):
        (category / place / "hole").symlink_to(other / place / "hole")
    module = FolderEpisodes(tmp_path, novel_categories=["cup"], base_categories=[], **KWARGS)
    queries = module.samples_of("cup").query("split == 'test' and label_index == 1")
    assert [(row.label, Path(row.image_path).name) for row in queries.itertuples()] == [
        (label, f"{i:03}.png") for label in ("dent", "hole") for i in range(3)
    ]


def test_recognise_says_the_form(tmp_path):
    assert recognise(named(tmp_path / "a", "yolo")).name == "YOLO text files in labels/"
    assert recognise(named(tmp_path / "b", "labelme beside")).name == "LabelMe files"
    assert recognise(trees.images_masks(tmp_path / "c")).name == "masks in masks/"
