"""The loop over windows in ONNX: its body is the network for one window, exported by itself."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18 as op

from anomalib_sofs.window_loop import WindowLoop

OPSET = 18
"""The lowest ONNX operator set that the exporter writes without converting."""
BODY = "window_"
"""Before the names in the body: names of one graph must not mean something else in the other."""


def window_graph(loop: WindowLoop) -> ir.Graph:
    """Export what a window goes through: a graph from a window ``(B, 3, h, w)`` to maps ``(B, C, h, w)``.

    By recording a run: no symbols, a second instead of a minute.
    """
    sides = (2 * loop.multiple, 3 * loop.multiple) if loop.fixed is None else (loop.fixed, loop.fixed)
    axes = {0: "batch"} | ({2: "rows", 3: "columns"} if loop.fixed is None else {})
    with TemporaryDirectory() as folder, torch.no_grad():
        file = Path(folder) / "window.onnx"
        torch.onnx.export(
            _Recorded(loop),
            (torch.rand(1, 3, *sides, device=loop.device),),
            file,
            dynamo=False,
            opset_version=OPSET,
            input_names=["window"],
            output_names=["maps"],
            dynamic_axes={"window": axes},
        )
        return ir.load(file).graph


class _Recorded(torch.nn.Module):
    """The function alone: its tensors become constants of the graph."""

    def __init__(self, loop: WindowLoop) -> None:
        super().__init__()
        self.loop = loop

    def forward(self, window: torch.Tensor) -> torch.Tensor:
        return self.loop.segment(window)


def loop_translation(loop: WindowLoop) -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return what the exporter puts into a graph where :func:`~anomalib_sofs.window_loop.segment_windows` is called."""

    def translate(image: ir.Value, rows: ir.Value, columns: ir.Value) -> ir.Value:
        body = _body(window_graph(loop), image, rows, columns)
        count = op.Gather(op.Shape(rows), op.Constant(value_int=0), axis=0)
        # recorded as the one loop that the exporter has words for, a scan, which OpenVINO cannot run with an image
        # that is no part of it: only a loop may look outside
        forever = op.Cast(op.Constant(value_int=1), to=ir.DataType.BOOL)
        maps = op.Scan(rows, columns, body=body, num_scan_inputs=2)
        node = maps.producer()
        node.op_type = "Loop"
        del node.attributes["num_scan_inputs"]
        node.replace_input_with(0, count)
        node.replace_input_with(1, forever)
        return maps

    return {torch.ops.anomalib_sofs.segment_windows.default: translate}


def _body(graph: ir.Graph, image: ir.Value, rows: ir.Value, columns: ir.Value) -> ir.Graph:
    """Cut a window out of the image, then do what the graph does."""
    number, going = (
        ir.Value(shape=ir.Shape([]), type=ir.TensorType(kind)) for kind in (ir.DataType.INT64, ir.DataType.BOOL)
    )
    on = ir.node("Identity", [going])
    ys, xs = (ir.node("Gather", [places, number], {"axis": 0}) for places in (rows, columns))
    strip = ir.node("Gather", [image, ys.outputs[0]], {"axis": 2})
    window = ir.node("Gather", [strip.outputs[0], xs.outputs[0]], {"axis": 3})
    nodes, initializers = list(graph), list(graph.initializers.values())
    (given,), (found,) = graph.inputs, graph.outputs
    given.replace_all_uses_with(window.outputs[0])
    graph.remove(nodes)
    graph.initializers.clear()
    graph.outputs.clear()
    body = ir.Graph(
        [number, going],
        [on.outputs[0], found],
        nodes=[on, ys, xs, strip, window, *nodes],
        name="windows",
    )
    values = [*body.inputs, *initializers, *(value for node in body for value in node.outputs)]
    for index, value in enumerate(values):
        value.name = f"{BODY}{index}"
    for initializer in initializers:
        body.initializers.add(initializer)
    for index, node in enumerate(body):
        node.name = f"{BODY}node_{index}"
    return body
