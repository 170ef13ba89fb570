"""Closed forms run in float32 whatever autocast says: a Gram matrix of features overflows in half precision."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def full_precision(x: Tensor) -> Iterator[None]:
    """Switch autocast off on the device of a tensor; nothing to do while a graph is exported."""
    if torch.compiler.is_compiling():
        yield
        return
    with torch.autocast(x.device.type, enabled=False):
        yield
