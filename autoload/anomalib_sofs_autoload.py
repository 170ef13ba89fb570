"""Make anomalib know the classes of anomalib_sofs, without importing anything until anomalib itself is imported.

Runs at every interpreter start (see ``anomalib_sofs.pth`` and, for Python 3.15 and later, ``anomalib_sofs.start``), so
it uses the standard library only, imports nothing at start-up and never raises. ``ANOMALIB_SOFS_AUTOLOAD=0`` turns it
off; ``import anomalib_sofs`` does the same by hand.
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

DATA_CLASSES = frozenset(
    {
        "MVTecADEpisodes",
        "VisaEpisodes",
        "FolderEpisodes",
        "VisionEpisodes",
        "DefectSpectrumEpisodes",
        "SurfaceEpisodes",
    }
)


def _import_plugin() -> None:
    """Import the package, which sets its classes on anomalib; a failure must not take anomalib down."""
    if "anomalib_sofs" in sys.modules:  # already done, or the plugin itself is importing anomalib right now
        return
    try:
        import anomalib_sofs  # noqa: F401, PLC0415
    except Exception as error:  # noqa: BLE001
        import warnings  # noqa: PLC0415

        warnings.warn(f"anomalib_sofs could not be loaded, anomalib goes on without it: {error!r}", stacklevel=2)


def _after_models(module: "ModuleType") -> None:
    del module
    _import_plugin()


def _after_data(module: "ModuleType") -> None:
    # anomalib.data is often imported half-way through something else: wait until a name of ours is asked for
    def __getattr__(name: str) -> object:  # noqa: N807
        if name in DATA_CLASSES:
            _import_plugin()
            if name in vars(module):
                return vars(module)[name]
        message = f"module {module.__name__!r} has no attribute {name!r}"
        raise AttributeError(message)

    module.__getattr__ = __getattr__  # type: ignore[method-assign]


AFTER = {"anomalib.models": _after_models, "anomalib.data": _after_data}


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


def install() -> None:
    """Install the import hook once, unless ``ANOMALIB_SOFS_AUTOLOAD=0``."""
    if os.environ.get("ANOMALIB_SOFS_AUTOLOAD") == "0" or any(isinstance(f, _Finder) for f in sys.meta_path):
        return
    sys.meta_path.insert(0, _Finder())
