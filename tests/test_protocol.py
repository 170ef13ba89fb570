"""The fixed protocol, stated independently of the package."""

# ruff: noqa: S311

import random
from pathlib import Path

import pytest

from anomalib_sofs.data import MVTecADEpisodes

from . import trees

CLASSES = {"dent": 6, "scratch": 5}


def expected(category: str, defect_class: str, count: int, seed: int, shot: int) -> dict[str, list[str]]:
    """Support stems by query stem, from DESIGN.md's sentence alone."""
    stems = [f"{i:03}" for i in range(count)]
    result = {}
    for query in stems:
        others = [stem for stem in stems if stem != query]
        rng = random.Random(f"{seed}/{category}/{defect_class}/{query}")
        result[query] = [others[rng.randrange(len(others))]] if shot == 1 else rng.sample(others, shot)
    return result


def found(module: MVTecADEpisodes, defect_class: str) -> dict[str, list[str]]:
    return {
        Path(batch.image_path[0]).stem: [Path(path).stem for path in batch.support_paths[0]]
        for batch in module.test_dataloader()
        if batch.defect_class[0] == defect_class and batch.counted[0]
    }


@pytest.mark.parametrize(("seed", "shot", "workers"), [(0, 1, 0), (0, 1, 2), (3, 1, 1), (0, 2, 0), (5, 3, 2)])
def test_every_query_gets_the_stated_support(tmp_path, seed, shot, workers):
    trees.mvtec(tmp_path, "cup", CLASSES)
    module = MVTecADEpisodes(tmp_path, novel_categories=["cup"], seed=seed, shot=shot, num_workers=workers)
    module.setup()
    for name, count in CLASSES.items():
        assert found(module, name) == expected("cup", name, count, seed, shot)


def test_support_is_of_the_querys_class_and_never_the_query(tmp_path):
    trees.mvtec(tmp_path, "cup", CLASSES)
    module = MVTecADEpisodes(tmp_path, novel_categories=["cup"], shot=2, num_workers=0)
    module.setup()
    for query in module.test_data:
        assert query.image_path not in query.support_paths
        assert len(set(query.support_paths)) == 2
        assert all(Path(path).parent.name == query.defect_class for path in query.support_paths)


def test_one_query_per_image_with_the_normal_ones_uncounted(tmp_path):
    trees.mvtec(tmp_path, "cup", CLASSES, good=3)
    module = MVTecADEpisodes(tmp_path, novel_categories=["cup"], num_workers=0)
    module.setup()
    queries = [(query.image_path, bool(query.counted)) for query in module.test_data]
    assert len(queries) == len(set(queries)) == sum(CLASSES.values()) + 3
    assert all(counted == (Path(path).parent.name != "good") for path, counted in queries)


def test_training_episodes_do_not_depend_on_the_number_of_workers(tmp_path):
    trees.mvtec(tmp_path, "cup", CLASSES)
    trees.mvtec(tmp_path, "can", CLASSES)
    epochs = []
    for workers in (0, 2):
        module = MVTecADEpisodes(
            tmp_path,
            novel_categories=["cup"],
            crop_size=16,
            num_workers=workers,
            episodes_per_epoch=8,
            episodes_per_batch=1,
        )
        module.setup()
        epochs.append(list(module.train_dataloader()))
    for one, other in zip(*epochs, strict=True):
        assert one.image_path == other.image_path
        assert one.image.equal(other.image)
        assert one.support_image.equal(other.support_image)
        assert one.support_mask.equal(other.support_mask)
