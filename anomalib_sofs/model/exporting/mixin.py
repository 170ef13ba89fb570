"""`anomalib export` of our model: the support encoded first, a loop over windows in the graph, nothing on the screen."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anomalib.models.components import AnomalibModule
from anomalib.models.components.base.export_mixin import ExportMixin

from anomalib_sofs.window_loop import exporting_loops

from .loop import OPSET, loop_translation
from .quiet import quiet_export


class SofsExport(ExportMixin):
    """What :class:`~anomalib_sofs.model.Sofs` does otherwise than anomalib when it is exported."""

    def prepare_export(self) -> None:
        """Make sure that there is a support encoding."""
        raise NotImplementedError

    def to_torch(self, export_root: Path | str, model_file_name: str = "model") -> Path:
        """Export as anomalib does; what is exported keeps no gradients."""
        self.prepare_export()
        with without_gradients(self):
            return super().to_torch(export_root, model_file_name)

    def to_onnx(
        self,
        export_root: Path | str,
        model_file_name: str = "model",
        input_size: tuple[int, int] | None = None,
        **kwargs: Any,
    ) -> Path:
        """Export as anomalib does, with the lowest opset that has every operator.

        anomalib asks for opset 14, which the exporter tries, fails to convert to, and reports at length.
        """
        self.prepare_export()
        with quiet_export(), exporting_loops() as loops, without_gradients(self):
            options = {"opset_version": OPSET, "verbose": False, "optimize": False, "custom_translation_table": loop_translation(loops)}
            return super().to_onnx(export_root, model_file_name, input_size, **options | kwargs)


@contextmanager
def without_gradients(model: AnomalibModule) -> Iterator[None]:
    """Make nothing of a model learn meanwhile."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.requires_grad_(requires_grad=False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_()
