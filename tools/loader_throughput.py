"""Print the training episodes per second that the loader gives and the model takes, and the time to a large table.

python tools/loader_throughput.py --root datasets/MVTecAD --novel bottle --workers 2   # loader and model
python tools/loader_throughput.py                                                      # table of 100,000 samples
"""

import argparse
import os
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from pandas import DataFrame
from PIL import Image

from anomalib_sofs import MVTecADEpisodes, Sofs
from anomalib_sofs.data.datamodule import EpisodeDataModule
from anomalib_sofs.data.items import EpisodeBatch

ROWS = 100_000
BATCH = 4  # episodes per training step
STEPS = 10  # training steps that the model is measured over
FILES = 400  # real files that the rows of the synthetic table share


class SyntheticEpisodes(EpisodeDataModule):
    """100,000 rows over a few real files, linked under as many names."""

    def list_categories(self) -> list[str]:
        """Name ten categories."""
        return [f"part_{i}" for i in range(10)]

    def samples_of(self, category: str) -> DataFrame:
        """List the category's rows, ten classes."""
        folder = self.root / category
        names = sorted(os.listdir(folder / "image"))  # noqa: PTH208 - quick, so that the package is measured
        table = DataFrame({f"{kind}_path": [f"{folder}/{kind}/{name}" for name in names] for kind in ("image", "mask")})
        table["label"] = [f"class_{i % 10}" for i in range(len(table))]
        table["split"] = "test"
        table["label_index"] = 1
        return table


def write_synthetic(root: Path, side: int) -> None:
    """Write a few images and hard links to them."""
    rng = np.random.default_rng(0)
    sources = []
    for i in range(FILES):
        image, mask = root / f"{i}.png", root / f"{i}_mask.png"
        Image.fromarray(rng.integers(0, 255, (side, side, 3), dtype=np.uint8)).save(image)
        marked = np.zeros((side, side), dtype=np.uint8)
        marked[5:9, 5:9] = 255
        Image.fromarray(marked).save(mask)
        sources.append((image, mask))
    for i in range(ROWS):
        folder = root / f"part_{i % 10}"
        if i < 10:  # noqa: PLR2004 - the first row of each category
            (folder / "image").mkdir(parents=True)
            (folder / "mask").mkdir()
        for source, kind in zip(sources[i % FILES], ("image", "mask"), strict=True):
            (folder / kind / f"{i:06}.png").hardlink_to(source)


def measure(arguments: argparse.Namespace, supports: int, shared: int) -> None:
    """Print episodes per second of loader and model.

    Args:
        arguments: Of the command line.
        supports: Support crops per episode.
        shared: Episodes that share their crops; 1 for none.
    """
    module = MVTecADEpisodes(
        arguments.root,
        novel_categories=[arguments.novel],
        num_workers=arguments.workers,
        crop_size=arguments.crop_size,
        crops_per_shot=supports,
        episodes_per_epoch=arguments.episodes,
        episodes_per_batch=shared,
        train_batch_size=BATCH,
    )
    module.setup()
    loader, model = loader_rate(module), model_rate(module)
    what = f"{BATCH} shared crops" if shared > 1 else f"1 query + {supports} support crops each"
    print(f"{what:30} loader {loader:6.1f} episodes/s   model {model:5.2f} episodes/s   ratio {loader / model:5.1f}")


def loader_rate(module: MVTecADEpisodes) -> float:
    """Measure episodes per second over one epoch, without the time that the workers take to start."""
    batches = iter(module.train_dataloader())
    for _ in range(2 * module.num_workers + 1):  # ready or under way at the start
        next(batches)
    start = time.perf_counter()
    count = sum(len(batch.image) for batch in batches)
    return count / (time.perf_counter() - start)


def model_rate(module: MVTecADEpisodes) -> float:
    """Measure episodes per second of training steps of the default model on batches that are there already."""
    model = Sofs()
    model.model.backbone.ensure_weights()
    model.train()
    optimizer = torch.optim.AdamW(model.model.head.parameters(), lr=model.lr)
    module.num_workers = 0
    batches = list(islice(module.train_dataloader(), STEPS + 1))
    for batch in batches:
        batch.image = model.model.normalise(batch.image)

    def step(batch: EpisodeBatch) -> None:
        optimizer.zero_grad()
        model.training_loss(batch).backward()
        optimizer.step()

    step(batches.pop())
    start = time.perf_counter()
    for batch in batches:
        step(batch)
    return sum(len(batch.image) for batch in batches) / (time.perf_counter() - start)


def measure_table() -> None:
    """Print the time to the table and the first batch of 100,000 samples."""
    with tempfile.TemporaryDirectory() as root:
        write_synthetic(Path(root), 64)
        module = SyntheticEpisodes(root, novel_categories=["part_0"], num_workers=0, crop_size=32)
        start, processor = time.perf_counter(), time.process_time()
        module.setup()
        next(iter(module.train_dataloader()))
        seconds, processor = time.perf_counter() - start, time.process_time() - processor
        print(f"{ROWS:,} samples: table and first batch {seconds:.1f} s ({processor:.1f} s of processor time)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", help="folder of categories in MVTec AD's layout; without it the table is measured")
    parser.add_argument("--novel", help="the category not to train on")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--crop-size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--episodes", type=int, default=400)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.root:
        print(f"{given.workers} workers, {torch.get_num_threads()} threads, crops of {given.crop_size} px:")
        for supports, shared in ((4, 1), (1, 1), (1, BATCH)):
            measure(given, supports, shared)
    else:
        measure_table()
