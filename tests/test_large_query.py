"""A 4096 x 4096 query on the default model, in a process of its own so that its memory can be measured."""

import json
import sys

import pytest

from .conftest import REPOSITORY
from .helpers_scripts import run

SCRIPT = """
import json, sys, time
import torch
from anomalib_sofs.benchmark.peak import peak_bytes, start_peak
from tests.helpers_model import default_model, marked, support, surface

torch.set_num_threads(2)
model = default_model(crop=512)
box = None if sys.argv[1] == "normal" else (100, 100, 108, 110)
model.support = model.encode(support(marked(256, 256, box) if box else (surface(256, 256), torch.zeros(256, 256))))
image = model.normalise(surface(4096, 4096))[None]
# not ru_maxrss: Linux lets a process inherit the peak of the one that started it
before, start = start_peak(), time.perf_counter()
with torch.no_grad():
    result = model(image)
print(json.dumps({
    "gigabytes": (peak_bytes() - before) / 2**30,
    "seconds": time.perf_counter() - start,
    "shape": list(result.anomaly_map.shape),
    "finite": bool(torch.isfinite(result.anomaly_map).all()),
}))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status")
@pytest.mark.parametrize("task", ["defect", "normal"])
def test_a_large_query_needs_less_than_two_gigabytes(task, record_property):
    done = run("python", "-W", "ignore", "-c", SCRIPT, task, cwd=REPOSITORY, env={"OMP_NUM_THREADS": "2"}, timeout=900)
    measured = json.loads(done.stdout.splitlines()[-1])
    record_property("measured", measured)
    assert measured["shape"] == [1, 4096, 4096]
    assert measured["finite"]
    assert measured["gigabytes"] < 2, measured
