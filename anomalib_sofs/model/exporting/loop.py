"""The loops of a graph in ONNX: their bodies are recorded by themselves."""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18

from anomalib_sofs.window_loop import Body, WindowLoops

op: Any = opset18  # its types know arrays, not the values of a graph
OPSET = 18
"""The lowest ONNX operator set that the exporter writes without converting."""


def loop_translation(loops: WindowLoops) -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return what the exporter puts into a graph where :func:`~anomalib_sofs.window_loop.in_loop` is called."""

    def translate(body: int, scanned: Sequence[ir.Value], whole: Sequence[ir.Value], shape: object) -> ir.Value:
        del shape
        graph = _looped(recorded(loops.bodies[body]), scanned, whole, f"loop_{body}_")
        count = op.Gather(op.Shape(scanned[0]), op.Constant(value_int=0), axis=0)
        forever = op.Cast(op.Constant(value_int=1), to=ir.DataType.BOOL)
        # The exporter has words for a scan only, which OpenVINO cannot run where it looks at what lies outside.
        results: Any = op.Scan(count, forever, body=graph, num_scan_inputs=2)
        node = results.producer()
        node.op_type = "Loop"
        del node.attributes["num_scan_inputs"]
        return results

    return {torch.ops.anomalib_sofs.in_loop.default: translate}


def recorded(body: Body) -> ir.Graph:
    """Turn a body into a graph by recording a run: no symbols, a second instead of a minute."""
    examples = body.examples()
    names = [f"input_{index}" for index in range(len(examples))]
    axes = {
        name: {axis: f"{name}_{axis}" for axis, size in enumerate(example.shape) if _is_free(size, axis, example, body)}
        for name, example in zip(names, examples, strict=True)
    }
    with TemporaryDirectory() as folder, torch.no_grad():
        file = Path(folder) / "body.onnx"
        torch.onnx.export(
            _Recorded(body.function),
            examples,
            file,
            dynamo=False,
            opset_version=OPSET,
            input_names=names,
            dynamic_axes=axes,
        )
        return ir.load(file).graph


def _is_free(size: int, axis: int, example: torch.Tensor, body: Body) -> bool:
    """Whether another size may come along an axis; an image of four dimensions keeps its channels."""
    return size not in body.fixed and not (example.ndim == 4 and axis == 1)  # noqa: PLR2004


class _Recorded(torch.nn.Module):
    """A function alone: the tensors that it reads become constants of the graph."""

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *arguments: torch.Tensor) -> torch.Tensor:
        """Call it."""
        return self.function(*arguments)


def _looped(graph: ir.Graph, scanned: Sequence[ir.Value], whole: Sequence[ir.Value], prefix: str) -> ir.Graph:
    """Make the body of a loop of a graph: its first inputs are rows of what is scanned, the others lie outside."""
    number, going = (
        ir.Value(shape=ir.Shape([]), type=ir.TensorType(kind)) for kind in (ir.DataType.INT64, ir.DataType.BOOL)
    )
    on = ir.node("Identity", [going])
    rows = [ir.node("Gather", [values, number], {"axis": 0}) for values in scanned]
    for given, value in zip(graph.inputs, [*(row.outputs[0] for row in rows), *whole], strict=True):
        given.replace_all_uses_with(value)
    nodes, initializers, (result,) = list(graph), list(graph.initializers.values()), graph.outputs
    graph.remove(nodes)
    graph.initializers.clear()
    graph.outputs.clear()
    looped = ir.Graph([number, going], [on.outputs[0], result], nodes=[on, *rows, *nodes], name=f"{prefix}body")
    # names of one graph must not mean something else in the other
    for index, value in enumerate([number, going, *initializers, *(v for node in looped for v in node.outputs)]):
        value.name = f"{prefix}{index}"
    for index, node in enumerate(looped):
        node.name = f"{prefix}node_{index}"
    for initializer in initializers:
        looped.initializers.add(initializer)
    return looped
