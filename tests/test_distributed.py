"""Several processes: every query is measured once, and every training episode is seen once."""

import json
import os
import socket
import time
from types import SimpleNamespace

import pytest
import torch
from anomalib.data import ImageBatch
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch.utils.data import DataLoader, DistributedSampler

from anomalib_sofs import MVTecADEpisodes
from anomalib_sofs.data.datasets import EpochSampler
from anomalib_sofs.data.items import EpisodeBatch
from anomalib_sofs.metrics.repeats import new_rows

from . import trees
from .helpers_metrics import played

# -- the metrics of two processes are those of one -------------------------------------------------------------------


def image(defect, score=0.9, cls=ImageBatch, seed=0, **fields):
    """One noisy image; a defect of five by four pixels is found if the score is above one half."""
    noise = torch.rand(1, 16, 20, generator=torch.Generator().manual_seed(seed))
    mask = torch.zeros(1, 16, 20, dtype=torch.bool)
    mask[:, 3:8, 4:8] = defect
    maps = torch.where(mask, score, 0.3 * noise)
    return cls(
        image=torch.zeros(1, 3, 16, 20), gt_mask=mask, gt_label=torch.tensor([defect]), anomaly_map=maps,
        pred_mask=maps > 0.5, pred_score=maps.amax((1, 2)), pred_label=maps.amax((1, 2)) > 0.5, **fields,
    )  # fmt: skip


def query(name, score):
    return image(True, score, EpisodeBatch, category=["cup"], defect_class=[name], counted=torch.tensor([True]))


def marked(name, score, number=1):
    """An image of a support set with two classes: what is found is the class of that number."""
    made = image(True, score, image_path=[f"test/{name}/0.png"])
    made.class_map, made.class_names = made.pred_mask.long() * number, ["a", "b"]
    return made


# Lightning deals in turn: what has an even place goes to the first process, and the second may get a repeat at the end
SCENARIOS = {
    "a class on one process only": (
        [query("a", 0.9), query("b", 0.1), query("a", 0.8)], ["cup/a", "cup/b", "cup/never"],
    ),
    "a process without any query": ([query("a", 0.9)], ["cup/a"]),
    "regions of uneven scores": ([image(True, 0.9), image(False), image(True, 0.2, seed=1), image(True, 0.15, seed=2)], []),
    "defects on one process only": ([image(True, 0.25), image(False), image(True, 0.2, seed=1)], []),
    "an image on one process only": ([image(True, 0.2)], []),
    "two classes": ([marked("a", 0.9), marked("b", 0.9), marked("a", 0.1), marked("b", 0.9), marked("a", 0.9, 2)], []),
    "one image of two classes": ([marked("b", 0.9, 2)], []),
}  # fmt: skip


def play_all(folder, processes=1):
    """Play all scenarios, here or as one of several processes; a later one would hang if an earlier one went astray."""
    return {
        name: played(folder / name, *batches, episodes=episodes, processes=processes)
        for name, (batches, episodes) in SCENARIOS.items()
    }


def report_of(folder, name):
    """What the scenario's run wrote about its classes."""
    file = folder / name / "classes.json"
    return json.loads(file.read_text()) if file.exists() else None


def play_as(rank, folder, port):
    """Take part in the scenarios as one of two processes that somebody else has started."""
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "scenarios",
    }  # fmt: skip
    results = play_all(folder, processes=2)
    (folder / f"{rank}.json").write_text(json.dumps(results))


@pytest.fixture(scope="module")
def of_two(tmp_path_factory):
    """The results of two processes, of which each has its own."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = torch.multiprocessing.spawn(play_as, (folder, port), nprocs=2, join=False)
    deadline = time.monotonic() + 240
    while not context.join(timeout=5):
        if time.monotonic() > deadline:
            for process in context.processes:
                process.kill()
            pytest.fail("the two processes wait for each other")
    return folder, [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def of_one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    return folder, play_all(folder)


@pytest.mark.parametrize("name", SCENARIOS)
def test_two_processes_measure_what_one_does(name, of_one, of_two):
    (one_folder, one), (two_folder, (first, second)) = of_one, of_two
    assert first[name] == second[name] == one[name]  # sums of whole numbers: equal to the last bit
    assert report_of(two_folder, name) == report_of(one_folder, name)


def test_a_class_that_one_process_has_alone_counts_once(of_two):
    values = of_two[1][0]["a class on one process only"]
    # two thirds of the defective pixels are found, and all of the background
    found, background = 2 / 3, (3 * 300) / (3 * 300 + 20)
    assert values == pytest.approx({
        "IoU/cup/a": 1, "IoU/cup/b": 0, "mIoU": 0.5, "FB-IoU": (found + background) / 2, "image_F1Score": 0.8,
        "pixel_AUROC": values["pixel_AUROC"],
    })  # fmt: skip


def test_classes_of_two_processes_meet_in_one_report(of_two):
    folder, (values, _) = of_two
    report = report_of(folder, "two classes")
    assert report["truth"] == ["background", "a", "b"]
    assert report["pixels"] == [[5 * 300, 0, 0], [20, 20, 20], [0, 40, 0]]
    assert report["iou"] == pytest.approx({"a": 20 / 100, "b": 0})
    assert values["two classes"]["mIoU"] == pytest.approx(0.1)


# -- repeats ---------------------------------------------------------------------------------------------------------


DEALT = [  # sampler, processes, queries; Lightning's own sampler refuses fewer queries than processes
    (kind, processes, count)
    for kind in (DistributedSampler, UnrepeatedDistributedSampler)
    for processes in (1, 2, 3)
    for count in range(1 if kind is DistributedSampler else processes, 14)
]


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize(("kind", "processes", "count"), DEALT)
def test_every_query_counts_once(kind, processes, count, size):
    counted = []
    for rank in range(processes):
        sampler = kind(range(count), processes, rank, shuffle=False)
        loader = DataLoader(range(count), batch_size=size, sampler=sampler)
        seen = 0
        for numbers in loader:
            counted += numbers[: new_rows(loader, seen, len(numbers))].tolist()
            seen += len(numbers)
    assert sorted(counted) == list(range(count))


def test_nothing_is_a_repeat_where_every_process_sees_everything():
    loader = DataLoader(range(7), batch_size=2)  # as with `use_distributed_sampler=False`
    assert [new_rows(loader, seen, size) for seen, size in ((0, 2), (2, 2), (4, 2), (6, 1))] == [2, 2, 2, 1]


# -- training episodes -----------------------------------------------------------------------------------------------


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
