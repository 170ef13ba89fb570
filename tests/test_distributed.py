"""Several processes: every query is measured once, however the batches fall."""

from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler

from anomalib_sofs.data.items import EpisodeBatch
from anomalib_sofs.metrics.evaluator import _without_repeats


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
