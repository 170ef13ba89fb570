"""INT8: the features network of a bundle, quantised after training (NNCF) with images of its user."""

import logging
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from anomalib_sofs.images import as_floats, read_stored
from anomalib_sofs.model.examples import Examples
from anomalib_sofs.openvino_core import core
from anomalib_sofs.query_files import list_images
from anomalib_sofs.runtime.bundle import FEATURES
from anomalib_sofs.runtime.inferencer import SofsInferencer
from anomalib_sofs.windows import Windows

FLOATING = 3
"""Convolutions that stay in floating point, with all that comes before them: what light and fine texture are like is
lost at 8 bits (measured: features differ by 6 % of their length instead of 65 %, of 17 % where only what comes before
stays)."""
MOST_IMAGES = 64
"""Images of a folder that are taken, spread evenly."""


def quantise(inferencer: SofsInferencer, folder: Path, support: Examples | None, calibration: Path | None) -> None:
    """Replace the features network of a bundle by one of 8 bits.

    Args:
        inferencer: The bundle in FP32.
        folder: The bundle's.
        support: The support set, whose windows tell which values are usual.
        calibration: Folder of further images that do.

    Raises:
        ValueError: If there is no image at all.
        ModuleNotFoundError: If NNCF is missing.
    """
    if find_spec("nncf") is None:
        msg = "INT8 needs NNCF, which is not installed: pip install 'anomalib[openvino]'."
        raise ModuleNotFoundError(msg)
    windows = list(_windows(inferencer, support, calibration))
    if not windows:
        msg = "INT8 needs images that tell which values are usual: a support set, or --calibration FOLDER."
        raise ValueError(msg)
    import nncf  # noqa: PLC0415 - it takes seconds, and is needed here only

    logging.getLogger("nncf").setLevel(logging.ERROR)
    file = folder / f"{FEATURES}.xml"
    model = core().read_model(file)
    quantised = nncf.quantize(
        model,
        nncf.Dataset(windows),
        subset_size=len(windows),
        model_type=nncf.ModelType.TRANSFORMER,  # additions stay in floating point: residual connections need it, too
        ignored_scope=nncf.IgnoredScope(names=_first_operations(model)),
    )
    aside = folder / "quantised.xml"
    ov.save_model(quantised, aside, compress_to_fp16=False)
    del model, quantised  # they map the old file
    for suffix in (".xml", ".bin"):
        aside.with_suffix(suffix).replace(file.with_suffix(suffix))


def _windows(
    inferencer: SofsInferencer, support: Examples | None, calibration: Path | None
) -> Iterator[NDArray[np.float32]]:
    """Yield windows ``(1, 3, h, w)``: those that are cut from the support, and the middle of further images."""
    if support is not None and not support.normal:
        for (window,) in inferencer.crops(support).features(lambda window: [window]):
            yield np.asarray(as_floats(np.asarray(window)))
    files = [] if calibration is None else list_images(calibration)
    kept = min(len(files), MOST_IMAGES)
    bundle = inferencer.bundle
    windows = Windows(bundle.window_size, bundle.multiple)
    for number in range(kept):
        image = as_floats(read_stored(files[number * len(files) // kept]))[None]
        y, x = (max(side - windows.size, 0) // 2 for side in image.shape[-2:])
        yield windows.fill(image[..., y : y + windows.size, x : x + windows.size])


def _first_operations(model: ov.Model) -> list[str]:
    """Name the operations of a network up to its first convolutions."""
    operations = [op for op in model.get_ordered_ops() if op.get_type_name() not in {"Constant", "Parameter"}]
    convolutions = [i for i, op in enumerate(operations) if op.get_type_name() in {"Convolution", "GroupConvolution"}]
    last = convolutions[min(FLOATING, len(convolutions)) - 1]  # a transformer has one, which makes its patches
    return [op.get_friendly_name() for op in operations[: last + 1]]
