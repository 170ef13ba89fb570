"""Print how many training episodes per second the loader gives, and how long a table of 100,000 samples takes.

python examples/loader_throughput.py --root datasets/MVTecAD --novel bottle --workers 2
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from pandas import DataFrame
from PIL import Image

from anomalib_sofs.data import MVTecADEpisodes
from anomalib_sofs.data.datamodule import EpisodeDataModule

ROWS = 100_000
FILES = 400  # real files that the rows of the synthetic table share


class SyntheticEpisodes(EpisodeDataModule):
    """100,000 rows over a few real files, linked under as many names."""

    def list_categories(self) -> list[str]:
        """Name ten categories."""
        return [f"part_{i}" for i in range(10)]

    def samples_of(self, category: str) -> DataFrame:
        """List the category's rows, ten classes."""
        folder = self.root / category
        images = sorted((folder / "image").iterdir())
        masks = [str(folder / "mask" / image.name) for image in images]
        table = DataFrame({"image_path": map(str, images), "mask_path": masks})
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


def measure_loader(arguments: argparse.Namespace) -> None:
    """Print episodes per second over one epoch, without the time that the workers take to start."""
    module = MVTecADEpisodes(
        arguments.root,
        novel_categories=[arguments.novel],
        num_workers=arguments.workers,
        crop_size=arguments.crop_size,
        crops_per_shot=arguments.crops_per_shot,
        episodes_per_epoch=arguments.episodes,
    )
    module.setup()
    batches = iter(module.train_dataloader())
    count = -sum(len(next(batches).image) for _ in range(2 * arguments.workers + 1))  # ready or under way at the start
    start = time.perf_counter()
    count += arguments.episodes
    for _ in batches:
        pass
    seconds = time.perf_counter() - start
    print(
        f"loader: {count / seconds:.1f} episodes/s ({arguments.workers} workers, crops of {arguments.crop_size} px, "
        f"1 query + {arguments.crops_per_shot} support crops)"
    )


def measure_table() -> None:
    """Print the time to the table and the first batch of 100,000 samples."""
    with tempfile.TemporaryDirectory() as root:
        write_synthetic(Path(root), 64)
        module = SyntheticEpisodes(root, novel_categories=["part_0"], num_workers=0, crop_size=32)
        start = time.perf_counter()
        module.setup()
        table = time.perf_counter() - start
        next(iter(module.train_dataloader()))
        print(f"{ROWS:,} samples: table {table:.1f} s, with the first batch {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", help="folder of categories in MVTec AD's layout")
    parser.add_argument("--novel", help="the category not to train on")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--crop-size", type=int, default=256)
    parser.add_argument("--crops-per-shot", type=int, default=1)
    parser.add_argument("--episodes", type=int, default=400)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.root:
        measure_loader(given)
    measure_table()
