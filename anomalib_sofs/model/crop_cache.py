"""A store for the features of support crops that is bounded in bytes."""

from cachetools import LRUCache

from .support_crops import Features


def feature_bytes(features: Features) -> int:
    """Return the memory of the features of a crop in bytes."""
    return sum(layer.nbytes for layer in features)


def crop_cache(capacity: int) -> "LRUCache[tuple[object, ...], Features]":
    """Make a store for the features of support crops, bounded in bytes; the least recently used goes first."""
    return LRUCache(capacity, getsizeof=feature_bytes)
