"""Several processes: every query is measured once, and every training episode is seen once."""

from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler

from anomalib_sofs import MVTecADEpisodes
from anomalib_sofs.data.datasets import EpochSampler
from anomalib_sofs.data.items import EpisodeBatch
from anomalib_sofs.metrics.evaluator import _without_repeats

from . import trees


def batch_of(numbers):
    """A batch whose images, scores and paths are the numbers of its queries."""
    size = len(numbers)
    return EpisodeBatch(
        image=torch.zeros(size, 3, 4, 4) + torch.tensor(numbers)[:, None, None, None],
        pred_score=torch.tensor(numbers, dtype=torch.float32),
        anomaly_map=torch.zeros(size, 4, 4),
        image_path=[f"{number}.png" for number in numbers],
        category=["cup"] * size,
        counted=torch.ones(size, dtype=torch.bool),
    )


@pytest.mark.parametrize("testing", [True, False])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("count", range(1, 14))
def test_every_query_counts_once(count, processes, size, testing):
    seen = []
    queries = range(count)
    for rank in range(processes):
        sampler = DistributedSampler(queries, processes, rank, shuffle=False)
        loader = DataLoader(queries, batch_size=size, sampler=sampler, collate_fn=batch_of)
        trainer = SimpleNamespace(
            testing=testing,
            test_dataloaders=loader if testing else None,
            val_dataloaders=None if testing else loader,
            world_size=processes,
            global_rank=rank,
        )
        for index, batch in enumerate(loader):
            kept = _without_repeats(trainer, batch, index)
            if kept is None:
                continue
            assert [f"{int(score)}.png" for score in kept.pred_score] == kept.image_path
            assert len(kept.image) == len(kept.anomaly_map) == len(kept.category) == len(kept.counted)
            seen += kept.image_path
    assert sorted(seen) == sorted(f"{number}.png" for number in queries)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_every_episode_of_every_epoch_is_dealt_once(processes):
    dealt = []
    for epoch in (0, 1, 5):
        for rank in range(processes):
            sampler = EpochSampler(12, processes, rank)
            sampler.set_epoch(epoch)
            numbers = list(sampler)
            assert len(numbers) == len(sampler) == 12 // processes
            dealt += numbers
    assert sorted(dealt) == [*range(12), *range(12, 24), *range(60, 72)]


@pytest.mark.parametrize("shared", [1, 4])
def test_two_processes_share_the_episodes_of_one(tmp_path, shared):
    for name in ("cup", "can"):
        trees.mvtec(tmp_path, name, {"dent": 5})

    def seen(processes, rank):
        module = MVTecADEpisodes(
            tmp_path, novel_categories=["cup"], crop_size=16, num_workers=0, episodes_per_epoch=16,
            episodes_per_batch=shared,
        )  # fmt: skip
        module.setup()
        module.trainer = SimpleNamespace(world_size=processes, global_rank=rank)
        return [float(image.sum()) for batch in module.train_dataloader() for image in batch.image]

    first, second = seen(2, 0), seen(2, 1)
    assert len(first) == len(second) == 8
    assert sorted(first + second) == sorted(seen(1, 0))
