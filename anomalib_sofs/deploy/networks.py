"""The networks of a bundle: what of the model is not written for numpy, too, with the support encoding as inputs."""

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import openvino as ov
import torch
from torch import Tensor, nn

from anomalib_sofs.model.exporting.quiet import quiet_export
from anomalib_sofs.model.exporting.rt_info import KEY as INFO
from anomalib_sofs.model.exporting.rt_info import PRECISION, WEIGHTS, write_info
from anomalib_sofs.model.normality.cells_and_spaces import LAYERS
from anomalib_sofs.model.relation.description import FINE_PREFIX
from anomalib_sofs.model.relation.fine_statistics import FineRelations
from anomalib_sofs.model.relation.head import RelationHead
from anomalib_sofs.model.relation.marks import SHARED
from anomalib_sofs.model.relation.rejections import KEY, LINES
from anomalib_sofs.model.relation.statistics import BACKGROUND_CELLS, DEFECT_CELLS, SupportRelations
from anomalib_sofs.model.torch_model import SofsModel
from anomalib_sofs.runtime.bundle import DECISION, FEATURES, HINTS, NORMAL, REJECTING, Precision

OPSET = 18
INPUTS = (*SupportRelations._fields, *(FINE_PREFIX + name for name in FineRelations._fields))
"""Names in an encoding of what a decision reads; those of rejected regions come last where there are any."""
SIDE = 96, 128
"""Height and width in pixels of the window that a network is recorded with."""
CELLS = 6, 8
"""The same of the image of anomaly detection, in the smallest steps of its sides."""


class Network(NamedTuple):
    """A network that is to be exported."""

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    """Examples by name."""
    free: dict[str, list[int]]
    """Axes of any size, by the name of the input."""


class _Recorded(nn.Module):
    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> object:
        """Call it."""
        return self.function(*inputs)


def networks(model: SofsModel, head: RelationHead) -> Iterator[Network]:
    """Yield the networks of a bundle."""
    windows = torch.rand(2, 3, *SIDE).to(model.mean)
    multiple = model.detector.windows.multiple
    images = torch.rand(2, 3, *(multiple * cells for cells in CELLS)).to(model.mean)
    axes = [0, 2, 3]

    def features(images: Tensor) -> tuple[Tensor, ...]:
        return tuple(head.features(model.backbone, model.normalise(images)))

    def normal_features(images: Tensor) -> tuple[Tensor, ...]:
        return tuple(model.backbone(model.normalise(images), LAYERS))

    yield Network(FEATURES, _Recorded(features), {"windows": windows}, {"windows": axes})
    yield Network(NORMAL, _Recorded(normal_features), {"windows": images}, {"windows": axes})
    grids = dict(zip(("grid", "fine"), features(windows), strict=True))
    examples = example_classes(grids["grid"], grids["fine"])
    for name, keys in ((DECISION, INPUTS), (REJECTING, (*INPUTS, KEY))):

        def decision(grid: Tensor, fine: Tensor, *values: Tensor, keys: tuple[str, ...] = keys) -> tuple[Tensor, ...]:
            classes = dict(zip(keys, values, strict=True))
            first = head.first_logits([grid, fine], classes)
            return (*head.look_again(first, grid, classes), first)

        free = dict.fromkeys(grids, axes) | {key: [0, 2] if key == KEY else [0] for key in keys if key not in SHARED}
        yield Network(name, _Recorded(decision), grids | {key: examples[key] for key in keys}, free)


def example_classes(grid: Tensor, fine_grid: Tensor) -> dict[str, Tensor]:
    """Make up the encoding of two classes, stacked, that fits features."""
    k, e, coarse, fine = 2, 3, grid.shape[1], fine_grid.shape[1]
    shapes = {
        "scale": (coarse,), "mean": (coarse,), "precision": (coarse, coarse), "background": (BACKGROUND_CELLS, coarse),
        "contrast": (k, coarse), "directions": (k, 6, coarse), "sigma": (k, 6), "defect": (k, DEFECT_CELLS, coarse),
        "odds": (k,), "fine_directions": (k, 4, fine), "fine_sigma": (k,), KEY: (k, len(LINES), e, coarse),
    }  # fmt: skip
    return {name: torch.rand(shape).to(grid) for name, shape in shapes.items()}


def write_network(network: Network, folder: Path) -> None:
    """Write a network for OpenVINO."""
    axes = {key: {axis: f"{key}_{axis}" for axis in free} for key, free in network.free.items()}
    with TemporaryDirectory() as scratch, torch.no_grad(), quiet_export():
        file = Path(scratch) / "network.onnx"
        torch.onnx.export(
            network.module,
            tuple(network.inputs.values()),
            file,
            dynamo=False,
            opset_version=OPSET,
            input_names=list(network.inputs),
            dynamic_axes=axes,
        )
        converted = ov.convert_model(file)
    for port, name in zip(converted.inputs, network.inputs, strict=True):
        port.get_tensor().set_names({name})  # an input that is copied first has the copy's name, too
    converted.set_rt_info(HINTS["fp32"], [INFO, PRECISION])
    converted.set_rt_info("FP32", [INFO, WEIGHTS])
    ov.save_model(converted, folder / f"{network.name}.xml", compress_to_fp16=False)


def tell_precision(folder: Path, precision: Precision) -> None:
    """Write into the networks of a bundle that find marked defects in which precision they were checked."""
    for name in (FEATURES, DECISION, REJECTING):
        weights = "INT8" if (name, precision) == (FEATURES, "int8") else "FP32"
        write_info(folder / f"{name}.xml", {PRECISION: HINTS[precision], WEIGHTS: weights})
