"""What a file of OpenVINO says of itself."""

from collections.abc import Mapping
from pathlib import Path

import openvino as ov

from anomalib_sofs.openvino_core import core

KEY = "model_info"
"""Where OpenVINO's Model API looks for it."""
PRECISION, WEIGHTS = "inference_precision", "weights_precision"
"""Names there of what OpenVINO is asked for, and of what the weights are stored in."""


def write_info(file: Path, info: Mapping[str, str]) -> None:
    """Add to what a model says of itself; the file is written aside and moved."""
    model = core().read_model(file)
    for key, value in info.items():
        model.set_rt_info(value, [KEY, key])
    renewed = file.with_name(f".part-{file.name}")
    ov.save_model(model, renewed, compress_to_fp16=False)
    del model  # it maps the old file
    for suffix in (".xml", ".bin"):
        renewed.with_suffix(suffix).replace(file.with_suffix(suffix))
