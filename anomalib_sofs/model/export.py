"""Exporting without a screenful of the exporter's own messages."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

OPSET = 18
"""The lowest ONNX operator set that the exporter writes without converting."""


@contextmanager
def quiet_export() -> Iterator[None]:
    """Keep back the warnings that the exporter gives about its own code; errors pass."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", UserWarning)
        yield
