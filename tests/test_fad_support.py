"""Which images few-shot anomaly detection takes as its support, over anomalib's own datamodules."""

from pathlib import Path

import pytest
from anomalib.data import Folder, MVTecAD, Tabular

from anomalib_sofs.model.normal_images import normal_training_images

from . import trees

GOOD = 7


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Seven good training images; the test images sort before them by folder and by name."""
    root = tmp_path_factory.mktemp("stock")
    trees.mvtec(root, "cup", {"a_dent": 3}, good=0)
    for i in reversed(range(GOOD)):
        trees.picture(root / f"cup/train/good/{i:03}.png", seed=i)
        trees.picture(root / f"cup/test/good/0{i}.png", seed=i)
    return root


def mvtec(root):
    return MVTecAD(root=root, category="cup", num_workers=0)


def folder(root):
    return Folder(
        name="cup", root=root / "cup", normal_dir="train/good", abnormal_dir="test/a_dent", normal_test_dir="test/good",
        mask_dir="ground_truth/a_dent", num_workers=0,
    )  # fmt: skip


def tabular(root):
    """A table in no order."""
    good = [(f"cup/train/good/{i:03}.png", 0, "train") for i in (3, 0, 6, 1, 5, 2, 4)]
    rows = [("cup/test/a_dent/000.png", 1, "test"), *good, ("cup/test/good/00.png", 0, "test")]
    paths, labels, splits = zip(*rows, strict=True)
    samples = {"image_path": [str(root / path) for path in paths], "label_index": list(labels), "split": list(splits)}
    return Tabular(name="cup", samples=samples, num_workers=0)


def support(datamodule, *, shot, support_selection="first", support_seed=0):
    if not hasattr(datamodule, "train_data"):
        datamodule.setup()
    chosen = normal_training_images(datamodule, shot, support_selection, support_seed)
    assert chosen.normal
    return ["/".join(Path(path).parts[-4:]) for path in chosen.paths]


STOCK = pytest.mark.parametrize("stock", [mvtec, folder, tabular])


@STOCK
@pytest.mark.parametrize("shot", [1, 4, GOOD])
def test_first_are_the_first_normal_training_images_by_name(root, stock, shot):
    assert support(stock(root), shot=shot) == [f"cup/train/good/{i:03}.png" for i in range(shot)]


@STOCK
def test_random_is_a_draw_of_normal_training_images_by_seed(root, stock):
    normal = {f"cup/train/good/{i:03}.png" for i in range(GOOD)}
    draws = [
        tuple(support(stock(root), shot=3, support_selection="random", support_seed=seed)) for seed in (0, 0, 1, 2, 3)
    ]
    assert all(len(set(draw)) == 3 and set(draw) <= normal for draw in draws)
    assert draws[0] == draws[1]
    assert len(set(draws)) > 2


def test_the_draw_is_the_same_whatever_the_datamodule(root):
    draws = {tuple(support(stock(root), shot=3, support_selection="random")) for stock in (mvtec, folder, tabular)}
    assert len(draws) == 1


@pytest.mark.parametrize("selection", ["first", "random"])
def test_an_anomalous_training_image_is_never_taken(root, selection):
    datamodule = mvtec(root)
    datamodule.setup()
    samples = datamodule.train_data.samples
    samples.loc[samples.image_path.str.endswith("000.png"), "label_index"] = 1
    chosen = support(datamodule, shot=GOOD - 1, support_selection=selection)
    assert chosen == [f"cup/train/good/{i:03}.png" for i in range(1, GOOD)]


@STOCK
def test_more_shots_than_normal_training_images_are_refused(root, stock):
    with pytest.raises(ValueError, match=rf"{GOOD} normal training images, but shot is {GOOD + 1}\. Lower shot"):
        support(stock(root), shot=GOOD + 1)
