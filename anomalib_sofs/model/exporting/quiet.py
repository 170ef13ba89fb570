"""Exporting without a screenful of the exporter's own messages."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

TALKATIVE = ("onnx_ir", "onnxscript", "torch.onnx", "torch.export")
"""Loggers that tell of each node that they remove."""


@contextmanager
def quiet_export() -> Iterator[None]:
    """Keep back what the exporter logs and warns about its own work; errors pass."""
    levels = {name: logging.getLogger(name).level for name in TALKATIVE}
    with warnings.catch_warnings():
        for kind in (FutureWarning, DeprecationWarning, UserWarning, torch.jit.TracerWarning):  # type: ignore[attr-defined]
            warnings.simplefilter("ignore", kind)
        for name in TALKATIVE:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
