"""Our model in OpenVINO, as anomalib exports it and as a bundle; with so many threads."""

import io
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from anomalib_sofs.deploy import export_bundle
from anomalib_sofs.model import Sofs, SupportSet
from anomalib_sofs.openvino_core import core
from anomalib_sofs.runtime import SofsInferencer
from anomalib_sofs.runtime.bundle import Precision


@contextmanager
def _silent() -> Iterator[None]:
    """Drop what exporters say."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(level)


def export(model: Sofs, folder: Path, precision: Precision, support: SupportSet) -> Path:
    """Export a model with its support set for images of any size: in FP32 as anomalib does it, else as a bundle.

    Raises:
        ValueError: See :func:`bundle`.
    """
    if precision == "fp32":
        with _silent():
            return Path(model.to_openvino(folder))
    return bundle(model, folder, precision, support)


def bundle(model: Sofs, folder: Path, precision: Precision, support: SupportSet) -> Path:
    """Write a bundle.

    Raises:
        ValueError: If this processor has no instructions for the precision, or it loses what was marked.
    """
    able = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision != "fp32" and precision.upper() not in able:
        msg = f"this processor has no instructions for {precision.upper()}; it has {', '.join(able)}"
        raise ValueError(msg)
    with _silent():
        return export_bundle(model, folder / precision, precision, support=support)


def compiled(file: Path, threads: int) -> Callable[[Tensor], object]:
    """Compile an exported model; on newer CPUs it would choose BF16 by itself."""
    if file.is_dir():
        inferencer = SofsInferencer(file, threads=threads)
        return lambda image: inferencer.raw(pixels(image[0]))
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    model = core().compile_model(file, "CPU", options)
    return lambda image: model(image.numpy())


def encoding_seconds(folder: Path, support: SupportSet, threads: int) -> float:
    """Measure how long a bundle takes to encode a support set, its networks being loaded."""
    inferencer = SofsInferencer(folder, threads=threads)
    given = [pixels(image) for image in support.images], [mask.numpy() for mask in support.masks], support.labels
    inferencer.set_support(*given)
    start = time.perf_counter()
    inferencer.set_support(*given)
    return time.perf_counter() - start


def pixels(image: Tensor) -> NDArray[np.uint8]:
    """Return an image ``(3, H, W)`` in [0, 1] as the runtime takes it."""
    return (image * 255).round().byte().permute(1, 2, 0).numpy()
