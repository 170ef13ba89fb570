"""A good guest: other models load what they loaded and give what they gave; batches are never resized."""

import json
import sys

import pytest
import torch
from anomalib.data import MVTecAD, PredictDataset
from anomalib.engine import Engine
from PIL import Image
from torch.utils.data import DataLoader

from anomalib_sofs import MVTecADEpisodes, MVTecLike, Sofs
from anomalib_sofs.data.surface_episodes import render_product

from . import trees
from .helpers_scripts import run

PATCHCORE = """
import json, sys
from pathlib import Path
from anomalib.data import MVTecAD
from anomalib.engine import Engine
from anomalib.models import Patchcore, list_models
from lightning.pytorch import seed_everything
seed_everything(0)
data = MVTecAD(sys.argv[1], "casting_0", train_batch_size=4, eval_batch_size=4, num_workers=0)
model = Patchcore("resnet18", ["layer1"], pre_trained=False, coreset_sampling_ratio=0.05, visualizer=False,
                  pre_processor=Patchcore.configure_pre_processor((32, 32)))
engine = Engine(default_root_dir=sys.argv[2], accelerator="cpu", devices=1, logger=False)
results = engine.train(model, datamodule=data)[0]
tables = [[Path(p).name for p in part.samples.image_path] for part in (data.train_data, data.test_data)]
print(json.dumps({"results": results, "tables": tables, "sofs": "sofs" in list_models()}))
"""


def test_patchcore_gives_the_same_with_and_without_this_package(tmp_path):
    render_product(tmp_path, "casting_0", images_per_class=2, size=64)
    good = tmp_path / "casting_0/train/good"
    Image.open(min(good.glob("*.png"))).convert("RGB").save(good / "000_preview.jpg")
    found = []
    for switch in ("0", "1"):
        done = run(
            sys.executable, "-c", PATCHCORE, tmp_path, tmp_path / f"out{switch}", cwd=tmp_path,
            env={"ANOMALIB_SOFS_AUTOLOAD": switch, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        found.append(json.loads(done.stdout.splitlines()[-1]))
    without, with_it = found
    assert (without.pop("sofs"), with_it.pop("sofs")) == (False, True)
    assert "000_preview.jpg" not in with_it["tables"][0]
    assert with_it == without


def engine(root):
    return Engine(default_root_dir=root / "out", accelerator="cpu", devices=1, logger=False, max_epochs=1)


def test_stock_datamodule_with_jpeg_images_names_the_one_that_reads_them(mixed_sizes, tmp_path):
    done = run(
        "anomalib", "train", "--model", "Sofs", "--data", "MVTecAD", "--data.root", mixed_sizes, "--data.category",
        "part", "--trainer.accelerator", "cpu", cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert "holds 12 images (.jpg), and MVTecAD reads PNG files only" in last
    assert "--data MVTecLike" in last
    assert "Traceback" not in done.stderr


def test_mvtec_like_reads_every_suffix_and_links_within_the_root(tmp_path):
    folder = trees.mvtec(tmp_path, "cup", {"dent": 2})
    trees.picture(folder / "train/good/009.jpg")
    trees.picture(tmp_path / "elsewhere/007.bmp")
    trees.save_mask(folder / "ground_truth/dent/007_mask.png", trees.box())
    (folder / "test/dent/007.bmp").symlink_to(tmp_path / "elsewhere/007.bmp")
    (folder / "train/good/._000.png").write_bytes(b"of macOS")
    data = MVTecLike(tmp_path, "cup", num_workers=0)
    data.setup()
    names = [
        [path.rsplit("/", 2)[1:] for path in part.samples.image_path] for part in (data.train_data, data.test_data)
    ]
    assert names[0] == [["good", "000.png"], ["good", "001.png"], ["good", "009.jpg"]]
    assert names[1] == [
        ["dent", "000.png"],
        ["dent", "001.png"],
        ["dent", "007.bmp"],
        ["good", "000.png"],
        ["good", "001.png"],
    ]
    episodes = MVTecADEpisodes(tmp_path, novel_categories=["cup"], base_categories=[], num_workers=0)
    episodes.setup()
    assert len(episodes.test_data) == 5  # three dents, two good ones


@pytest.fixture
def two_sizes(tmp_path):
    """A category of PNG files of two sizes."""
    folder = trees.mvtec(tmp_path, "cup", {"dent": 1})
    trees.picture(folder / "test/good/001.png", size=(48, 40))
    return tmp_path


def test_mixed_sizes_in_one_batch_are_refused_before_the_run(two_sizes):
    with pytest.raises(ValueError, match=r"has 40 x 32 pixels, .*001\.png 40 x 48.*--data\.eval_batch_size 1"):
        engine(two_sizes).train(model=Sofs(), datamodule=MVTecAD(two_sizes, "cup", num_workers=0))
    engine(two_sizes).train(model=Sofs(), datamodule=MVTecAD(two_sizes, "cup", num_workers=0, eval_batch_size=1))


def test_loader_of_mixed_sizes_is_refused_and_one_of_equal_sizes_gives_the_same_maps(two_sizes, support_folder):
    data = PredictDataset(two_sizes / "cup/test")
    model = Sofs(support=support_folder / "support", visualizer=False)
    with pytest.raises(ValueError, match=r"different sizes do not fit into one batch.*batch_size=1"):
        engine(two_sizes).predict(model=model, dataloaders=DataLoader(data, batch_size=3, collate_fn=data.collate_fn))
    data = PredictDataset(two_sizes / "cup/train")
    maps = [
        torch.cat(
            [
                batch.anomaly_map
                for batch in engine(two_sizes).predict(
                    model=model, dataloaders=DataLoader(data, batch_size=size, collate_fn=data.collate_fn)
                )
            ]
        )
        for size in (1, 2)
    ]
    torch.testing.assert_close(maps[0], maps[1], atol=1e-5, rtol=0)
