"""A 3072 x 3072 query on the default model, in a process of its own so that its memory can be measured."""

import json
import sys

import pytest

from .conftest import REPOSITORY
from .helpers_scripts import run

SIZE = 3072
SCRIPT = """
import json, time
import torch
from anomalib_sofs.benchmark.peak import peak_bytes, start_peak
from tests.helpers_model import default_model, marked, support, surface

torch.set_num_threads(2)
model = default_model(crop=512)
image = model.normalise(surface(SIZE, SIZE))[None]
for task, box in (("defect", (100, 100, 108, 110)), ("normal", None)):
    model.support = model.encode(support(marked(256, 256, box) if box else (surface(256, 256), torch.zeros(256, 256))))
    # not ru_maxrss: Linux lets a process inherit the peak of the one that started it
    before, start = start_peak(), time.perf_counter()
    with torch.no_grad():
        result = model(image)
    print(json.dumps({
        "task": task,
        "gigabytes": (peak_bytes() - before) / 2**30,
        "seconds": time.perf_counter() - start,
        "shape": list(result.anomaly_map.shape),
        "finite": bool(torch.isfinite(result.anomaly_map).all()),
    }))
    del result
"""


@pytest.fixture(scope="module")
def measured():
    """What the process says of each task."""
    code = f"SIZE = {SIZE}\n{SCRIPT}"
    done = run("python", "-W", "ignore", "-c", code, cwd=REPOSITORY, env={"OMP_NUM_THREADS": "2"}, timeout=900)
    return {row["task"]: row for row in map(json.loads, done.stdout.splitlines()[-2:])}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status")
@pytest.mark.parametrize("task", ["defect", "normal"])
def test_a_large_query_needs_less_memory_than_two_gigabytes_for_4096_pixels(measured, task, record_property):
    found = measured[task]
    record_property("measured", found)
    assert found["shape"] == [1, SIZE, SIZE]
    assert found["finite"]
    assert found["gigabytes"] < 2 * (SIZE / 4096) ** 2, found
