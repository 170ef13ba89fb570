"""Our model in OpenVINO: exported as anomalib does it, run in FP32 with a given number of threads."""

import io
import logging
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import openvino as ov
from torch import Tensor

from anomalib_sofs.model import Sofs


def export(model: Sofs, folder: Path) -> Path:
    """Export a model with its support set for images of any size; the exporter's own messages are dropped."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            return Path(model.to_openvino(folder))
    finally:
        logging.disable(level)


def compiled(file: Path, threads: int) -> Callable[[Tensor], object]:
    """Compile an exported model; on newer CPUs it would choose BF16 by itself."""
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    model = ov.Core().compile_model(file, "CPU", options)
    return lambda image: model(image.numpy())
