"""The networks of a bundle, run by OpenVINO."""

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from anomalib_sofs.images import as_floats
from anomalib_sofs.model.relation.marks import Look
from anomalib_sofs.openvino_core import core

from .bundle import DECISION, FEATURES, NORMAL, REJECTING

Values = NDArray[np.float32]
OPTIONS = {"INFERENCE_PRECISION_HINT": "f32"}
"""On new processors OpenVINO would take BF16 by itself; a bundle says when it may."""
ON_CPU = {"ENABLE_CPU_PINNING": False}
"""On Linux OpenVINO would bind its threads to cores, always the first ones: processes side by side, such as the workers
of a cluster and the watchers of several cameras, would share one core while others are idle."""
FIRST = 2
"""Output of a decision that holds the logits of the first look, after those that are a :class:`Look`."""
REJECTED = "rejected"
"""Name of the exemplars of rejected regions in an encoding."""


class DeviceError(ValueError):
    """There is no such device; the message names those that there are."""


def check_device(device: str) -> None:
    """Check that a device exists.

    Raises:
        DeviceError: If it does not.
    """
    known = [*core().available_devices, "AUTO"]
    if device.split(":", maxsplit=1)[0].split(".", maxsplit=1)[0] not in {name.split(".")[0] for name in known}:
        msg = f"There is no device {device!r} here. Devices: {', '.join(known)}."
        raise DeviceError(msg)


class Networks:
    """Loads a network when it is first needed.

    Args:
        folder: The bundle.
        device: ``CPU``, ``GPU``, ``NPU`` or ``AUTO``, as OpenVINO names them; only ``CPU`` has been tried.
        hint: Precision that OpenVINO is asked for, see :data:`.bundle.HINTS`.
        threads: That OpenVINO takes; ``None`` lets it choose.

    Raises:
        DeviceError: If there is no such device.
    """

    def __init__(self, folder: Path, device: str, hint: str = "f32", threads: int | None = None) -> None:
        self._exact: dict[str, Any] = {**OPTIONS, **({} if threads is None else {"INFERENCE_NUM_THREADS": threads})}
        if device == "CPU":
            self._exact |= ON_CPU
        self._options = {**self._exact, "INFERENCE_PRECISION_HINT": hint}
        check_device(device)
        self._folder = folder
        self._device = device

    def _read(self, name: str) -> ov.Model:
        return core().read_model(self._folder / f"{name}.xml")

    def _compiled(self, name: str) -> ov.CompiledModel:
        return core().compile_model(self._read(name), self._device, self._options)

    @cached_property
    def _first(self) -> ov.CompiledModel:
        """The decision as far as the first look."""
        whole = self._read(DECISION)
        part = ov.Model([whole.get_results()[FIRST]], whole.get_parameters(), "first")
        return core().compile_model(part, self._device, self._options)

    @cached_property
    def _features(self) -> ov.CompiledModel:
        return self._compiled(FEATURES)

    @cached_property
    def _normal(self) -> ov.CompiledModel:
        # what counts are small differences between similar cells
        return core().compile_model(self._read(NORMAL), self._device, self._exact)

    @cached_property
    def _decisions(self) -> dict[str, ov.CompiledModel]:
        return {}

    @cached_property
    def _judges(self) -> dict[tuple[str, str], ov.CompiledModel]:
        """Features and decision in one, by the decision's name and what OpenVINO is to optimise."""
        return {}

    def features(self, windows: Values) -> list[Values]:
        """Extract the coarse and the fine grid of windows ``(n, 3, h, w)`` in [0, 1]."""
        return _outputs(self._features([as_floats(windows)]))

    def normal_features(self, images: Values, layers: slice = slice(None)) -> list[Values]:
        """Extract the layers that anomaly detection reads from images ``(n, 3, h, w)`` in [0, 1]; it has no others."""
        del layers
        return _outputs(self._normal([as_floats(images)]))

    def first(self, features: Sequence[Values], classes: Mapping[str, Values]) -> Values:
        """Judge features by the encoding of K classes without rejected regions, stacked: logits of the first look."""
        return _judged(self._first, features, classes)[0]

    def look(self, features: Sequence[Values], classes: Mapping[str, Values]) -> Look:
        """Judge features by the encoding of K classes, stacked, twice."""
        name = REJECTING if REJECTED in classes else DECISION
        if name not in self._decisions:
            self._decisions[name] = self._compiled(name)
        return Look(*_judged(self._decisions[name], features, classes)[:FIRST])

    def windows(self, classes: Mapping[str, Values], jobs: int | None = None) -> "WindowQueue":
        """Prepare to judge windows by the encoding of K classes, several at a time.

        Args:
            classes: The encoding, stacked.
            jobs: Windows that are judged at a time; ``None`` asks OpenVINO.
        """
        name, hint = REJECTING if REJECTED in classes else DECISION, "LATENCY" if jobs == 1 else "THROUGHPUT"
        if (name, hint) not in self._judges:  # other marks are other inputs: nothing is compiled for them
            joined = _joined(self._read(FEATURES), self._read(name))
            options = {**self._options, "PERFORMANCE_HINT": hint}
            self._judges[name, hint] = core().compile_model(joined, self._device, options)
        return WindowQueue(self._judges[name, hint], classes, jobs or 0)


class WindowQueue:
    """OpenVINO's queue of requests, each of which judges one window.

    Args:
        network: Judges windows.
        classes: The encoding of K classes, stacked.
        jobs: Requests at a time; 0 asks OpenVINO.
    """

    def __init__(self, network: ov.CompiledModel, classes: Mapping[str, Values], jobs: int) -> None:
        self._queue = ov.AsyncInferQueue(network, jobs)
        self._fixed = {name: np.ascontiguousarray(values) for name, values in classes.items()}
        self._names = [port.any_name for port in network.inputs]
        # what OpenVINO holds, Python's garbage collection does not see: nothing there may lead back to the queue
        self._numbers = count()
        self._receivers: dict[int, Any] = {}
        self._failures: list[BaseException] = []
        self._queue.set_callback(partial(_receive, self._receivers, self._failures))

    def judge(self, window: NDArray[Any], receiver: Any) -> None:
        """Judge a window ``(1, 3, h, w)`` as soon as a request is free; what is seen goes to the receiver."""
        named = {"windows": np.ascontiguousarray(as_floats(window)), **self._fixed}
        number = next(self._numbers)
        self._receivers[number] = receiver
        self._queue.start_async([named[name] for name in self._names], userdata=number)
        self.check()

    def finish(self) -> None:
        """Wait for all windows."""
        self._queue.wait_all()
        self.check()

    def check(self) -> None:
        """Raise what a receiver has raised."""
        if self._failures:
            error = self._failures[-1]
            self._failures.clear()
            raise error


def _receive(receivers: dict[int, Any], failures: list[BaseException], request: ov.InferRequest, number: int) -> None:
    try:
        receivers.pop(number)(Look(*(request.get_output_tensor(i).data for i in range(2))))
    except BaseException as error:  # noqa: BLE001 - OpenVINO would end the process
        failures.append(error)


def _judged(network: ov.CompiledModel, features: Sequence[Values], classes: Mapping[str, Values]) -> list[Values]:
    named = {"grid": features[0], "fine": features[1], **classes}
    return _outputs(network([named[port.any_name] for port in network.inputs]))


def _outputs(results: Any) -> list[Values]:
    return [results[i] for i in range(len(results))]


def _joined(features: ov.Model, decision: ov.Model) -> ov.Model:
    """Make one network of two: the features of the first are those of the second."""
    inputs = {parameter.get_output_tensor(0).any_name: parameter for parameter in decision.get_parameters()}
    for name, result in zip(("grid", "fine"), features.get_results(), strict=True):
        inputs.pop(name).output(0).replace(result.input_value(0))
    return ov.Model(decision.get_results()[:FIRST], [*features.get_parameters(), *inputs.values()], "window")
