"""How long training lasts: `epochs` of the model holds only where the user set no limit at all."""

from pathlib import Path

import pytest
import torch
from anomalib.engine import Engine
from lightning.pytorch import Trainer

from anomalib_sofs import MVTecADEpisodes, Sofs

from . import trees


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, 3),
        ({"max_epochs": 5}, 5),
        ({"max_epochs": 1000}, 1000),  # what Lightning takes where nothing was set
        ({"max_epochs": -1}, -1),
        ({"max_steps": 7}, None),
        ({"max_time": "00:00:01:00"}, None),
    ],
)
def test_a_limit_of_the_user_is_kept(limits, expected):
    trainer = Trainer(**limits, accelerator="cpu", logger=False, enable_checkpointing=False)
    model = Sofs(weights=None, epochs=3)
    model.trainer = trainer
    assert trainer.max_epochs == expected
    assert model.trainer is trainer


@pytest.mark.parametrize(("limits", "epochs"), [({}, 2), ({"max_epochs": 1}, 1), ({"max_steps": 3}, 3)])
def test_training_lasts_so_many_epochs(tmp_path, limits, epochs):
    trees.mvtec(tmp_path, "cup", {"dent": 3})
    data = MVTecADEpisodes(
        tmp_path, base_categories=["cup"], num_workers=0, crop_size=32, episodes_per_epoch=4, val_limit=1
    )
    engine = Engine(default_root_dir=tmp_path / "out", accelerator="cpu", devices=1, logger=False, **limits)
    engine.fit(model=Sofs(epochs=2), datamodule=data)
    saved = torch.load(next(Path(tmp_path / "out").rglob("*.ckpt")), weights_only=True)
    assert saved["epoch"] + 1 == saved["global_step"] == epochs
