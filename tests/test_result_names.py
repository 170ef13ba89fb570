"""Every image has a place of its own for its results."""

import json

import pytest

from anomalib_sofs.results.names import free_folder, result_stems

from . import trees
from .conftest import pictures_folder, run


@pytest.mark.parametrize(
    ("images", "stems"),
    [
        (["/d/images/0.png"], ["images/0"]),
        (["/d/images/0.png", "/d/images/1.png"], ["images/0", "images/1"]),
        (["/d/test/pit/0.png", "/d/test/crack/0.png"], ["pit/0", "crack/0"]),
        (["/d/a/images/0.png", "/d/b/images/0.png"], ["a/images/0", "b/images/0"]),
        (["/d/0.png", "/d/d/0.png"], ["0", "d/0"]),
        (["/d/0.png", "/d/0.jpg", "/d/1.png"], ["d/0.png", "d/0.jpg", "d/1"]),
        (["/d/part.png", "/d/part_mask.png"], ["d/part", "d/part_mask.png"]),
        (["/d/part_mask.png", "/d/other.png"], ["d/part_mask", "d/other"]),
        (["/d/part.png", "/d/e/part_probability.png"], ["part", "e/part_probability"]),
        (["/d/v1.2.png", "/d/v1.3.png"], ["d/v1.2", "d/v1.3"]),
        (["/d/0.png", "/d/0.png"], ["d/0"]),
        ([], []),
    ],
)
def test_places_are_as_short_as_they_can_be(images, stems):
    assert [str(stem) for stem in result_stems(images).values()] == stems
    assert list(result_stems(images)) == list(dict.fromkeys(images))


def test_relative_files_are_found_under_the_name_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert {name: str(stem) for name, stem in result_stems(["0.png"]).items()} == {"0.png": f"{tmp_path.name}/0"}


def test_results_of_another_image_are_never_replaced(tmp_path):
    folder = tmp_path / "predictions"
    for number, image in enumerate(["/a/images/0.png", "/b/images/0.png", "/c/images/0.png"], start=1):
        stems = result_stems([image])
        for _ in range(2):  # the same image again replaces its own
            chosen = free_folder(folder, stems)
            assert chosen.name == ("predictions" if number == 1 else f"predictions_{number}")
            (chosen / "images").mkdir(parents=True, exist_ok=True)
            (chosen / "images/0.json").write_text(json.dumps({"image": image}))


def test_predict_keeps_equal_names_of_two_folders_apart(support_folder, tmp_path):
    sizes = {"a/images": (40, 64), "b/images": (64, 48), "c": (56, 56)}
    for folder, size in sizes.items():
        trees.picture(tmp_path / "data" / folder / "0.png", size)
    done = run("anomalib", "predict", "--model", "Sofs", "--model.support", support_folder / "support",
               "--data", tmp_path / "data", cwd=tmp_path)  # fmt: skip
    folder = pictures_folder(done.stdout)
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 4 * len(sizes)
    for name, size in sizes.items():
        found = json.loads((folder / name / "0.json").read_text())
        assert (found["height"], found["width"]) == size
        assert found["image"] == str(tmp_path / "data" / name / "0.png")
