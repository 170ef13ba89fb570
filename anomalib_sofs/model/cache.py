"""A small least-recently-used store, bounded in bytes."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class ByteCache(Generic[T]):
    """Keep computed values until they take up too much memory; the least recently used goes first.

    Args:
        capacity: Bytes.
        size: Bytes of a value.
    """

    def __init__(self, capacity: int, size: Callable[[T], int]) -> None:
        self.capacity = capacity
        self.size = size
        self.used = 0
        self.store: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return the stored value, or compute and store it."""
        if key in self.store:
            self.store.move_to_end(key)
            return self.store[key]
        value = self.store[key] = compute()
        self.used += self.size(value)
        while self.used > self.capacity and len(self.store) > 1:
            self.used -= self.size(self.store.popitem(last=False)[1])
        return value

    def clear(self) -> None:
        """Forget everything."""
        self.store.clear()
        self.used = 0
