"""Peak memory of a query and of encoding its support, each measured in a process of its own: a peak never falls."""

import ctypes
import gc
import resource
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from .openvino_engine import compiled
from .subjects import Subject, build_ours, query_image, support_set

MB = 10**6


def measure(subject: Subject, engine: str, file: Path | None, size: int, threads: int) -> dict[str, float | None]:
    """Measure in a new process.

    Args:
        subject: The model.
        engine: ``"torch"`` or ``"openvino"``.
        file: The exported model, or anomalib's model as torch saved it.
        size: Side of the query in pixels.
        threads: Of the engine.

    Returns:
        ``peak_mb`` while segmenting one query and ``encode_peak_mb`` while encoding the support (``None`` where the
        support is part of the model), both above the loaded model; ``model_mb`` of the process with the loaded model.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_measure, subject, engine, file, size, threads).result()


@torch.inference_mode()
def _measure(subject: Subject, engine: str, file: Path | None, size: int, threads: int) -> dict[str, float | None]:
    torch.set_num_threads(threads)
    image, encoding = query_image(size), None
    query: Any
    if file is None:
        model, support = build_ours(subject), support_set(subject)
        query, loaded = model, start_peak()
        model.set_support(support)
        encoding = peak_bytes() - loaded
        start_peak()
    else:
        query = compiled(file, threads) if engine == "openvino" else torch.load(file, weights_only=False)
        loaded = start_peak()
    query(image)
    return {
        "peak_mb": (peak_bytes() - loaded) / MB,
        "encode_peak_mb": None if encoding is None else encoding / MB,
        "model_mb": loaded / MB,
    }


def start_peak() -> int:
    """Give unused memory back, start a new peak (Linux only), and return the bytes in use."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    except (OSError, AttributeError):
        return peak_bytes()


def peak_bytes() -> int:
    """Return the largest memory in bytes since :func:`start_peak`; elsewhere than on Linux, of the whole process."""
    try:
        return _status("VmHWM")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
