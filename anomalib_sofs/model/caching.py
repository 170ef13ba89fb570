"""Keeping what was computed."""

from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def kept(cache: MutableMapping[K, V], key: K, compute: Callable[[], V]) -> V:
    """Return the value of a key, computed the first time; what is larger than a whole bounded cache is not kept."""
    if key in cache:
        return cache[key]
    value = compute()
    with suppress(ValueError):  # cachetools says that it is too large
        cache[key] = value
    return value
