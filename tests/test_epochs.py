"""How long training lasts: what the user gave the trainer holds; `epochs` of the model where he gave nothing."""

import logging
from pathlib import Path

import pytest
import torch
from anomalib.engine import Engine
from lightning.pytorch import Callback

from anomalib_sofs import MVTecADEpisodes, MVTecLike, Sofs
from anomalib_sofs.data.surfaces import render

from . import trees


def episodes(root):
    trees.mvtec(root, "cup", {"dent": 3})
    return MVTecADEpisodes(
        root, base_categories=["cup"], num_workers=0, crop_size=32, episodes_per_epoch=4, val_limit=1
    )


def checkpoint(root):
    (path,) = Path(root).rglob("*.ckpt")
    return torch.load(path, weights_only=True)


class StopAfter(Callback):
    """Ends training after so many epochs, whatever its limits."""

    def __init__(self, epochs):
        self.epochs = epochs
        self.sanity_batches = 0

    def on_validation_batch_end(self, trainer, *_):
        self.sanity_batches += trainer.sanity_checking

    def on_train_epoch_end(self, trainer, pl_module):
        del pl_module
        trainer.should_stop = trainer.current_epoch + 1 >= self.epochs


@pytest.mark.parametrize(
    ("limits", "model", "epochs"),
    [
        ({}, {"epochs": 2}, 2),
        ({"max_epochs": 1}, {"epochs": 2}, 1),
        ({"max_steps": 3}, {"epochs": 2}, 3),
        ({"max_epochs": 4}, {}, 4),
    ],
)
def test_training_lasts_so_many_epochs(tmp_path, limits, model, epochs):
    engine = Engine(default_root_dir=tmp_path / "out", accelerator="cpu", devices=1, logger=False, **limits)
    engine.fit(model=Sofs(**model), datamodule=episodes(tmp_path))
    saved = checkpoint(tmp_path / "out")
    assert saved["epoch"] + 1 == saved["global_step"] == epochs


def test_the_trainer_alone_decides_without_epochs(tmp_path):
    stop = StopAfter(3)
    engine = Engine(
        default_root_dir=tmp_path / "out", accelerator="cpu", devices=1, logger=False, max_epochs=1000, callbacks=[stop]
    )
    engine.fit(model=Sofs(epochs=None), datamodule=episodes(tmp_path))
    assert checkpoint(tmp_path / "out")["epoch"] + 1 == 3


def test_the_learning_rate_falls_over_the_epochs_that_are_trained(tmp_path, caplog):
    model = Sofs(epochs=2, lr=1e-5)
    engine = Engine(default_root_dir=tmp_path / "out", accelerator="cpu", devices=1, logger=False)
    with caplog.at_level(logging.WARNING, logger="anomalib_sofs"):
        engine.fit(model=model, datamodule=episodes(tmp_path))
    assert engine.trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)
    assert "training ends after 2 epochs" in caplog.text


@pytest.mark.parametrize("steps", [0, 1])
def test_the_sanity_check_is_the_users(tmp_path, steps):
    seen = StopAfter(1)
    engine = Engine(
        default_root_dir=tmp_path / "out", accelerator="cpu", devices=1, logger=False, max_epochs=1, callbacks=[seen],
        num_sanity_val_steps=steps,
    )  # fmt: skip
    engine.fit(model=Sofs(weights=None), datamodule=episodes(tmp_path))
    assert seen.sanity_batches == steps
    assert checkpoint(tmp_path / "out")["global_step"] == 1


def test_anomaly_detection_changes_neither_limits_nor_batch_sizes(tmp_path):
    folder = trees.mvtec(tmp_path, "cup", {"dent": 1}, good=5)
    for number, file in enumerate(sorted(folder.glob("train/good/*"))):
        trees.save_mask(file, render("casting", None, style=3, seed=number, size=trees.SIZE)[0])
    data = MVTecLike(tmp_path, "cup", train_batch_size=2, eval_batch_size=3, num_workers=0)
    engine = Engine(
        default_root_dir=tmp_path / "out", accelerator="cpu", devices=1, logger=False, max_epochs=7,
        limit_train_batches=2,
    )  # fmt: skip
    engine.fit(model=Sofs(), datamodule=data)
    assert (data.train_batch_size, data.eval_batch_size) == (2, 3)
    assert (engine.trainer.max_epochs, engine.trainer.limit_train_batches) == (7, 2)
    saved = checkpoint(tmp_path / "out")
    assert (saved["epoch"], saved["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["completed"]) == (0, 1)
    assert any(key.startswith("model.support.0.") for key in saved["state_dict"])
