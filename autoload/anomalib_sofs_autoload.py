"""Make anomalib know the classes of anomalib_sofs, without importing anything until anomalib itself is imported.

Runs at every interpreter start (see ``anomalib_sofs.pth`` and, for Python 3.15 and later, ``anomalib_sofs.start``), so
it uses the standard library only, imports nothing at start-up and never raises. ``ANOMALIB_SOFS_AUTOLOAD=0`` turns it
off; ``import anomalib_sofs`` installs the same hook by hand.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

    Step = Callable[[ModuleType], None]

MODEL_CLASSES = frozenset({"Sofs"})
DATA_CLASSES = frozenset(
    {
        "MVTecADEpisodes",
        "MVTecLike",
        "VisaEpisodes",
        "FolderEpisodes",
        "VisionEpisodes",
        "DefectSpectrumEpisodes",
        "SurfaceEpisodes",
    }
)


def _import_classes() -> None:
    """Import our classes: anomalib looks for subclasses in memory. A failure must not take anomalib down."""
    from importlib import import_module  # noqa: PLC0415

    try:
        # one of them may be importing anomalib right now: then the other one is loaded here and the first goes on later
        import_module("anomalib_sofs.model.lightning_model")
        import_module("anomalib_sofs.data")
    except Exception as error:  # noqa: BLE001
        import warnings  # noqa: PLC0415

        warnings.warn(f"anomalib_sofs could not be loaded, anomalib goes on without it: {error!r}", stacklevel=2)


def _offer(module: "ModuleType", names: frozenset[str]) -> None:
    """Let a module of anomalib find our classes when their names are asked for; nothing of its own changes."""
    before = vars(module).get("__getattr__")

    def __getattr__(name: str) -> object:  # noqa: N807
        if name in names:
            try:
                import anomalib_sofs  # noqa: PLC0415

                return getattr(anomalib_sofs, name)
            except Exception as error:
                message = f"{name} of anomalib_sofs could not be loaded: {error!r}"
                raise AttributeError(message) from error
        if before is not None:
            return before(name)
        message = f"module {module.__name__!r} has no attribute {name!r}"
        raise AttributeError(message)

    module.__getattr__ = __getattr__  # type: ignore[method-assign]


def _after_models(module: "ModuleType") -> None:
    _offer(module, MODEL_CLASSES)
    _import_classes()


def _after_data(module: "ModuleType") -> None:
    # anomalib.data is often imported half-way through something else: wait until a name of ours is asked for
    _offer(module, DATA_CLASSES)


AFTER = {"anomalib.data": _after_data, "anomalib.models": _after_models}


def _one_then_other(one: "Step", other: "Step") -> "Step":
    def both(module: "ModuleType") -> None:
        one(module)
        other(module)

    return both


class _Finder:
    """Meta path finder that finds nothing itself: it adds an afterthought to two modules of anomalib."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> "ModuleSpec | None":
        """Let the other finders find the module and wrap its execution."""
        if name not in AFTER:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)  # type: ignore[arg-type]
            if spec is not None and spec.loader is not None:
                loader: Any = spec.loader
                loader.exec_module = _one_then_other(loader.exec_module, AFTER[name])
                return spec
        return None


def install(*, always: bool = False) -> None:
    """Install the import hook once.

    Args:
        always: Even with ``ANOMALIB_SOFS_AUTOLOAD=0``, and for modules of anomalib that are imported already: what
            ``import anomalib_sofs`` means.
    """
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    if not always and os.environ.get("ANOMALIB_SOFS_AUTOLOAD") == "0":
        return
    sys.meta_path.insert(0, _Finder())
    if always:
        for name, step in AFTER.items():
            if name in sys.modules:
                step(sys.modules[name])
