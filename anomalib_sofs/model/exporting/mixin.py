"""`anomalib export` of our model: support encoded first, loops in the graph, compared with PyTorch, written whole."""

import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomalib.deploy.export import CompressionType
from anomalib.models.components import AnomalibModule
from anomalib.models.components.base.export_mixin import ExportMixin
from torchvision.transforms.v2 import Normalize

from anomalib_sofs.model.backbone import is_transformer
from anomalib_sofs.model.restrictions import check_exports, check_graph
from anomalib_sofs.results.files import unwritable, write_json
from anomalib_sofs.window_loop import WindowLoops, exporting_loops, unchanged

from .loop import OPSET, loop_translation
from .parity import NORMAL_ALLOWED, TRANSFORMER_ALLOWED, Runner, compare, probe_files, run_openvino, run_torch, summary
from .quiet import quiet_export
from .rt_info import PRECISION, WEIGHTS, write_info

if TYPE_CHECKING:
    from anomalib_sofs.model.torch_model import SofsModel

PRECISIONS = {None: "FP32", CompressionType.FP16: "FP16"}
"""Of the weights, by compression; the others are of 8 bits, and nothing would come of them."""


class SofsExport(ExportMixin):
    """What :class:`~anomalib_sofs.model.Sofs` does otherwise than anomalib when it is exported.

    Every export ends with a parity report, which is printed and saved beside the model as ``NAME_parity.json``.
    """

    model: "SofsModel"

    def prepare_export(self) -> None:
        """Make sure that there is a support encoding."""
        raise NotImplementedError

    def to_torch(self, export_root: Path | str, model_file_name: str = "model") -> Path:
        """Export as anomalib does; what is exported keeps no gradients.

        Raises:
            ParityError: If it does not do what the model does.
        """
        self.prepare_export()
        check_exports(self.model.support)
        with without_gradients(self):  # type: ignore[arg-type]
            return self._checked(export_root, super().to_torch, run_torch, "FP32", None, model_file_name)

    def to_onnx(
        self,
        export_root: Path | str,
        model_file_name: str = "model",
        input_size: tuple[int, int] | None = None,
        *,
        parity: bool = True,
        **kwargs: Any,
    ) -> Path:
        """Export as anomalib does, with the lowest opset that has every operator.

        anomalib asks for opset 14, which the exporter tries, fails to convert to, and reports at length.

        Args:
            export_root: Folder for the export.
            model_file_name: Name of the files.
            input_size: Height and width in pixels; ``None`` for any.
            parity: Whether to compare the result with PyTorch.
            **kwargs: Of ``torch.onnx.export``.

        Raises:
            ParityError: If it does not do what the model does.
        """
        self.prepare_export()
        check_graph(self.model.support, input_size)
        with quiet_export(), exporting_loops() as loops, without_gradients(self):  # type: ignore[arg-type]
            options = {
                "opset_version": OPSET,
                "verbose": False,
                "optimize": False,  # inference engines do that themselves, in a fraction of the time
                "custom_translation_table": loop_translation(loops),
            } | kwargs
            to_onnx = super().to_onnx

            def written(root: Path, *arguments: Any, **options: Any) -> Path:
                with _normalised_by_window(self, loops):
                    return to_onnx(root, *arguments, **options)

            if not parity:
                return written(Path(export_root), model_file_name, input_size, **options)
            return self._checked(
                export_root, written, run_openvino, "FP32", input_size, model_file_name, input_size, **options
            )

    def to_openvino(
        self,
        export_root: Path | str,
        model_file_name: str = "model",
        input_size: tuple[int, int] | None = None,
        compression_type: CompressionType | None = None,
        *args: Any,
        onnx_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Path:
        """Export as anomalib does; the precision that was compared is written into the model's ``rt_info``.

        Raises:
            ValueError: If it is to be compressed to 8 bits.
            ParityError: If it does not do what the model does.
        """
        if compression_type is not None and compression_type not in PRECISIONS:
            msg = (
                f"compression_type {compression_type.value.upper()} would leave this model as it is: its networks run "
                "in a loop over windows, into which NNCF does not look. A bundle has 8 bits, checked on the support "
                "set: anomalib-sofs bundle --out FOLDER --model.support SUPPORT --precision int8 --calibration IMAGES. "
                "Weights of half the size: --compression_type FP16."
            )
            raise ValueError(msg)
        precision = PRECISIONS[compression_type]
        to_openvino = super().to_openvino

        def written(root: Path, *arguments: Any, **options: Any) -> Path:
            file = to_openvino(root, *arguments, **options)
            _inform(file, precision)
            return file

        return self._checked(
            export_root, written, run_openvino, precision, input_size, model_file_name, input_size, compression_type,
            *args, onnx_kwargs={**(onnx_kwargs or {}), "parity": False}, **kwargs,
        )  # fmt: skip

    def _checked(
        self,
        root: Path | str,
        write: Callable[..., Path],
        load: Callable[[Path], Runner],
        precision: str,
        size: tuple[int, int] | None,
        *arguments: Any,
        **options: Any,
    ) -> Path:
        """Export aside, compare with PyTorch, and put the files in their place."""
        with _aside(Path(root)) as aside:
            start = time.perf_counter()
            file = write(aside, *arguments, **options)
            written = time.perf_counter()
            module: Any = self
            support = self.model.support
            report = compare(
                module.eval(),
                load(file),
                precision,
                probe_files(support.record),
                size,
                magnified=_magnified(self.model),
            )
            json_file = file.with_name(f"{file.stem}_parity.json")
            write_json(report, json_file)
            folder = Path(root) / file.parent.relative_to(aside)
            folder.mkdir(parents=True, exist_ok=True)
            for part in file.parent.iterdir():
                part.replace(folder / part.name)
        took = f"Exported in {written - start:.0f} s, compared in {time.perf_counter() - written:.0f} s."
        print(f"{took}\n{summary(report, folder / json_file.name)}")  # noqa: T201 - the command's answer
        return folder / file.name


def _magnified(model: "SofsModel") -> Mapping[str, float] | None:
    """Return what a model that magnifies rounding may differ by, ``None`` for others."""
    if is_transformer(model.backbone.name):
        return TRANSFORMER_ALLOWED
    return NORMAL_ALLOWED if model.support.normal or model.support.contrast is not None else None


@contextmanager
def _aside(root: Path) -> Iterator[Path]:
    """Give a folder in which an export is written; nothing is left of it."""
    aside = root / f".part-{uuid.uuid4().hex}"
    try:
        aside.mkdir(parents=True)
        yield aside
    except OSError as error:
        raise unwritable(root, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _inform(file: Path, precision: str) -> None:
    """Write into a model what OpenVINO's Model API and our runtime look for, and the precision that is compared."""
    info = {
        "model_type": "AnomalyDetection",
        "task": "segmentation",
        "labels": "Normal Anomaly",
        "image_threshold": "0.5",
        "pixel_threshold": "0.5",
        "normalization_scale": "1.0",
        WEIGHTS: precision,
        PRECISION: "f32",
    }
    write_info(file, info)


@contextmanager
def _normalised_by_window(model: Any, loops: WindowLoops) -> Iterator[None]:
    """Let windows be normalised instead of the image, where nothing else is done with it."""
    pre_processor = model.pre_processor
    transform = getattr(pre_processor, "export_transform", None)
    if not isinstance(transform, Normalize):
        yield
        return
    model.pre_processor, loops.prepare = None, transform
    try:
        yield
    finally:
        model.pre_processor, loops.prepare = pre_processor, unchanged


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
