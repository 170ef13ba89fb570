"""`anomalib-sofs bundle`: every argument of the model is an option, as in anomalib's own command."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from anomalib_sofs.arguments import ExistingFolder
from anomalib_sofs.model import Sofs, SupportSet
from anomalib_sofs.runtime.bundle import Precision

from .bundle import export_bundle

DESCRIPTION = "Write networks and support set for the runtime without PyTorch (anomalib-sofs run, SofsInferencer)."
COMPONENTS: set[str | int] = {"pre_processor", "post_processor", "evaluator", "visualizer"}


def main(argv: Sequence[str]) -> None:
    """Write a bundle, and say where."""
    parser = ArgumentParser("anomalib-sofs bundle", description=DESCRIPTION, exit_on_error=True)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder for the bundle")
    parser.add_argument("--ckpt_path", type=Path, metavar="CKPT", help="checkpoint, with its support set")
    parser.add_argument("--precision", type=Precision, default="fp32", help="of the networks: fp32, bf16 or int8")
    parser.add_argument(
        "--calibration", type=ExistingFolder, metavar="FOLDER", help="int8: images like those to be searched"
    )
    parser.add_class_arguments(Sofs, "model", skip=COMPONENTS, instantiate=False)
    everything = parser.parse_args(list(argv))
    given = parser.parse_args(list(argv), defaults=False)
    options = vars(given.get("model")) if given.get("model") else {}
    model = _model(everything.ckpt_path, options)
    if everything.calibration is not None and everything.precision != "int8":
        msg = f"--calibration is for --precision int8; {everything.precision} needs no images. Leave it out."
        raise ValueError(msg)
    source = model.support_folder  # to be read again, where its images are needed
    if model.support_folder is not None or len(model.model.support):
        model.prepare_export()
    images = None
    if everything.precision != "fp32" and source is not None:
        images = SupportSet.from_folder(source, normal=model.support_normal)
    folder = export_bundle(
        model, everything.out, everything.precision, support=images, calibration=everything.calibration
    )
    support = model.model.support
    what = f"finds {', '.join(support.names)}" if len(support) else "no support set: call set_support"
    print(f"Bundle: {folder} ({what})")  # noqa: T201 - the command's answer


def _model(ckpt_path: Path | None, options: dict[str, Any]) -> Sofs:
    if ckpt_path is None:
        return Sofs(**options)
    if not ckpt_path.is_file():
        msg = f"The checkpoint {ckpt_path} does not exist."
        raise FileNotFoundError(msg)
    model = Sofs.load_from_checkpoint(ckpt_path, map_location="cpu", **options)
    if not isinstance(model, Sofs):
        msg = f"{ckpt_path} is no checkpoint of Sofs."
        raise TypeError(msg)
    return model
