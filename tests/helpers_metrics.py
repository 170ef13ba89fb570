"""Lightning's own test loop over batches that are known beforehand, in one process or in several."""

from datetime import timedelta
from operator import itemgetter

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader

from anomalib_sofs.metrics import SofsEvaluator


class Player(LightningModule):
    """A model that gives back what it gets."""

    post_processor = None

    def test_step(self, batch):
        return batch


class Batches(LightningDataModule):
    """Ready-made batches; episodes if classes are named."""

    def __init__(self, batches, class_names):
        super().__init__()
        self.test_data = batches
        if class_names:
            self.class_names = class_names
            self.val_data = type("Named", (), {"class_names": class_names})

    def test_dataloader(self):
        return DataLoader(self.test_data, batch_size=1, collate_fn=itemgetter(0))


def played(folder, *batches, episodes=(), evaluator=None, processes=1):
    """Test batches with SofsEvaluator and return what is logged; called by each of the processes, if several."""
    strategy = DDPStrategy(process_group_backend="gloo", timeout=timedelta(seconds=30)) if processes > 1 else "auto"
    trainer = Trainer(
        callbacks=[evaluator or SofsEvaluator()], default_root_dir=folder, accelerator="cpu", devices=processes,
        strategy=strategy, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.test(Player(), datamodule=Batches(batches, list(episodes)), verbose=False)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}
