"""Put our classes where anomalib looks for its own."""

from importlib import import_module

from anomalib_sofs import data, model


def register() -> None:
    """Set model and datamodules as attributes of ``anomalib.models`` and ``anomalib.data``."""
    # import_module and not `import anomalib.models`: the start-up hook runs before that attribute of anomalib exists
    import_module("anomalib.models").Sofs = model.Sofs  # type: ignore[attr-defined]
    anomalib_data = import_module("anomalib.data")
    for name in data.__all__:
        setattr(anomalib_data, name, getattr(data, name))
    data.accept_all_suffixes()
