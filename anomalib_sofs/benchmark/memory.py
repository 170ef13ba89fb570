"""Peak memory of support sets of many crops, each in a process of its own."""

import resource
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch
from rich.progress import Progress

from anomalib_sofs.model import Sofs, SupportSet
from anomalib_sofs.model.encoding import encoding_bytes

from .markdown import table
from .timing import SIDE, probe_image, probe_support, say

MIB = 2**20
HEADS: dict[str, dict[str, Any]] = {
    "relation (default)": {},
    "paper": {"head": "paper", "head_options": {"scale_features": True}},
    "paper, coreset=1000": {"head": "paper", "head_options": {"scale_features": True, "coreset": 1000}},
}


def run(arguments: Namespace, progress: Progress) -> list[dict[str, Any]]:
    """Run the benchmark.

    Args:
        arguments: See :func:`~anomalib_sofs.benchmark.arguments.parse`.
        progress: Where progress is shown.

    Returns:
        One record per head and number of crops.
    """
    records = []
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:  # a peak never falls again
        for head in HEADS:
            before = pool.submit(measure, head, 0, torch.get_num_threads()).result()
            for crops in arguments.crops:
                measured = pool.submit(measure, head, crops, torch.get_num_threads()).result()
                record = {"head": head, "crops": crops, **measured, "model_mib": before["peak_mib"]}
                records.append(record)
                say(progress, f"{head}, {crops} crops: {record['peak_mib'] - record['model_mib']:.0f} MiB")
    return records


def measure(head: str, crops: int, threads: int) -> dict[str, float]:
    """Encode support crops of 512 x 512 pixels, each with one small defect, and segment one image of that size.

    Args:
        head: Key of :data:`HEADS`.
        crops: Number of support images, one crop each; 0 only loads the model.
        threads: For torch.

    Returns:
        Peak memory of the process and size of the encoding in MiB, seconds to encode the support and to segment.
    """
    torch.set_num_threads(threads)
    options = HEADS[head]
    model = Sofs(weights=None if options else "default", **options).model.eval()
    model.head_trained.fill_(value=True)  # how long it takes and what it needs does not depend on the weights
    model.backbone.ensure_weights()
    image = probe_image()
    if crops == 0:
        model.backbone(image[None])
        return {"peak_mib": _peak_mib()}
    mask = probe_support().masks[0]
    start = time.perf_counter()
    # rows moved up, so that no two crops are the same
    encoding = model.encode(SupportSet([image.roll(7 * i, dims=1) for i in range(crops)], [mask] * crops))
    encoded = time.perf_counter()
    with torch.inference_mode():
        model.class_maps(model.normalise(image)[None], encoding)
    return {
        "peak_mib": _peak_mib(),
        "encoding_mib": encoding_bytes(encoding) / MIB,
        "encode_seconds": encoded - start,
        "query_seconds": time.perf_counter() - encoded,
    }


def _peak_mib() -> float:
    """Return the largest memory that this process ever had; the unit is KiB, bytes on macOS."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / MIB


def tables(records: Sequence[dict[str, Any]]) -> list[str]:
    """Draw one table."""
    head = ["head", "support crops", "peak MiB above the model", "encoding MiB", "s to encode", "s / query"]
    lines = [
        [
            record["head"],
            record["crops"],
            f"{record['peak_mib'] - record['model_mib']:.0f}",
            f"{record['encoding_mib']:.1f}",
            f"{record['encode_seconds']:.1f}",
            f"{record['query_seconds']:.2f}",
        ]
        for record in records
    ]
    note = (
        f"Crops and query of {SIDE} x {SIDE} pixels. The model alone, with one pass of the backbone, is subtracted; "
        f"the support images themselves, {3 * SIDE * SIDE * 4 / MIB:.0f} MiB each, are not."
    )
    return [*table(head, lines), note, ""]
