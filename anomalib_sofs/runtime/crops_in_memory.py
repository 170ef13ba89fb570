"""A store for the features of support crops: what does not fit is computed again."""

from anomalib_sofs.model.support_crops import Features

MOST_BYTES = 2**28


class CropsInMemory(dict[tuple[object, ...], Features]):
    """Refuses what exceeds :data:`MOST_BYTES`, as :func:`~anomalib_sofs.model.caching.kept` expects."""

    def __init__(self) -> None:
        super().__init__()
        self._bytes = 0

    def __setitem__(self, key: tuple[object, ...], value: Features) -> None:
        size = sum(layer.nbytes for layer in value)
        if self._bytes + size > MOST_BYTES:
            msg = "value too large"
            raise ValueError(msg)
        self._bytes += size
        super().__setitem__(key, value)
