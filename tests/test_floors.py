"""What the packaged head finds: never more than two points below what it found when it was packaged."""

import pytest
import torch
from rich.progress import Progress

from anomalib_sofs.benchmark.categories import segmentation_tables
from anomalib_sofs.benchmark.fss import evaluate
from anomalib_sofs.benchmark.methods import FULL, build_methods
from anomalib_sofs.data.datasets import QueryEpisodes
from anomalib_sofs.data.surface_episodes import NOVEL, render_product

from .conftest import REAL_DATA, needs_real_data

SLACK = 2.0
SURFACES = {"ground_steel_0": 66.6, "woven_fabric_0": 50.6, "ceramic_0": 53.9, "plastic_0": 51.3}


def miou(root, category: str, limit: int) -> float:
    """Mean over the classes in percent: the fixed protocol, one support, seed 0, the first queries by name."""
    table = segmentation_tables(root, [category], 1)[category]
    episodes = QueryEpisodes(table, shot=1, seed=0, limit=limit, normal_queries=False)
    with torch.inference_mode(), Progress(disable=True) as progress:
        tallies = evaluate(episodes, build_methods("default")[:1], progress, category)
    return 100 * tallies[FULL].result()["miou"]


@pytest.mark.parametrize(("surface", "measured"), SURFACES.items())
def test_rendered_surfaces_that_were_never_trained_on(tmp_path, surface, measured):
    assert surface.removesuffix("_0") in NOVEL
    render_product(tmp_path, surface, 4, 256)
    assert miou(tmp_path, surface, limit=4) > measured - SLACK


@needs_real_data
@pytest.mark.parametrize(
    ("category", "limit", "measured"),
    [
        ("ballscrew", 4, 50.7), pytest.param("ballscrew_kgt", 3, 15.7, marks=pytest.mark.slow), ("magnetic_tile", 4, 44.2),
        ("solar_el", 6, 17.2), ("steel_strip", 10, 56.4), ("transistor", 1, 20.9),
    ],
)  # fmt: skip
def test_real_parts(category, limit, measured):
    assert miou(REAL_DATA, category, limit) > measured - SLACK
