"""The parity report: how far an exported model is from PyTorch, measured before it appears under its name."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor

from anomalib_sofs.model.examples import SupportRecord
from anomalib_sofs.openvino_core import core
from anomalib_sofs.tensors import read_image
from anomalib_sofs.windows import continue_to

Runner = Callable[[Tensor], Mapping[str, Tensor]]
"""Runs an exported model on images ``(B, 3, H, W)`` in [0, 1]: at least ``anomaly_map`` and ``pred_score``."""

ALLOWED = {"FP32": 1e-4, "FP16": 0.02}
"""Largest difference of maps and scores, which lie in [0, 1], by precision of the weights."""
NORMAL_ALLOWED = {"FP32": 5e-4}
"""The same of anomaly detection, where it differs: whitening by the spread of normal images magnifies the rounding of
features, up to 1e-4 where images are far from normal."""
TRANSFORMER_ALLOWED = {"FP32": 1e-3}
"""The same of vision transformers, as in a bundle: cells that are interpolated from few make covariances that magnify
rounding (features differ by 1e-6 of their largest, maps by 2e-4 to 3e-4 with random weights)."""
RANDOM_SIZES = ((1, 70, 113), (3, 96, 130), (1, 600, 545))
"""Batch, height, width: sides that no stride divides; the last is more than one window."""
SUPPORTS = 2
SUPPORT_SIDE = 640
"""Support images that are compared, and the pixels of a side that are: the report takes seconds."""


class Difference(TypedDict):
    """What came out for one batch."""

    image: str
    batch: int
    height: int
    width: int
    map: float
    score: float


class Report(TypedDict):
    """The content of the JSON file."""

    precision: str
    allowed: float
    map: float
    score: float
    images: list[Difference]
    unread: list[str]
    """Support images that are no files (arrays), or not there any more."""


class ParityError(RuntimeError):
    """An exported model does not do what the model in PyTorch does."""


def compare(
    reference: Callable[[Tensor], Any],
    exported: Runner,
    precision: str,
    supports: Sequence[str],
    size: tuple[int, int] | None = None,
    *,
    magnified: Mapping[str, float] | None = None,
) -> Report:
    """Compare an exported model with PyTorch.

    Args:
        reference: The model in PyTorch.
        exported: The exported one.
        precision: Of its weights, see :data:`ALLOWED`.
        supports: Files of images, see :func:`probe_files`; those that are none, or gone, are named in the report.
        size: Height and width, where it takes no others.
        magnified: What is allowed instead of :data:`ALLOWED`, where the model magnifies rounding.

    Raises:
        ParityError: If maps or scores differ by more than the precision allows.
    """
    rows: list[Difference] = []
    for name, image in probes(supports, size):
        with torch.inference_mode():
            expected = reference(image)
        found = exported(image)
        rows.append(
            {
                "image": name,
                "batch": image.shape[0],
                "height": image.shape[2],
                "width": image.shape[3],
                "map": _largest(found["anomaly_map"], expected.anomaly_map),
                "score": _largest(found["pred_score"], expected.pred_score),
            }
        )
    largest = {key: max(row[key] for row in rows) for key in ("map", "score")}
    allowed = {**ALLOWED, **(magnified or {})}[precision]
    if not max(largest.values()) <= allowed:  # also where they are not numbers
        worst = max(rows, key=lambda row: max(row["map"], row["score"]))
        msg = (
            f"The exported model is not the model: on {worst['image']} ({worst['height']} x {worst['width']} pixels, "
            f"batch of {worst['batch']}) maps differ by {worst['map']:.2g} and scores by {worst['score']:.2g}, "
            f"{precision} allows {allowed:.2g}. Nothing was written. Export without compression, or report this."
        )
        raise ParityError(msg)
    return {"precision": precision, "allowed": allowed, **largest, "images": rows, "unread": gone(supports)}  # type: ignore[typeddict-item]


def summary(report: Report, file: Path) -> str:
    """Say in two lines what a report says."""
    sizes = ", ".join(f"{r['batch']} x {r['height']} x {r['width']} ({r['image']})" for r in report["images"])
    unread = (
        f" Not compared, for they are no files, or gone: {', '.join(report['unread'])}." if report["unread"] else ""
    )
    return (
        f"Compared with PyTorch ({report['precision']}): maps differ by at most {report['map']:.1e}, scores by "
        f"{report['score']:.1e}; allowed {report['allowed']:.0e}.\nImages: {sizes}.{unread} Report: {file}"
    )


def _largest(found: Tensor, expected: Tensor) -> float:
    if found.shape != expected.shape:
        return float("inf")
    return float((found - expected.cpu()).abs().max())


def probes(supports: Sequence[str], size: tuple[int, int] | None) -> Iterator[tuple[str, Tensor]]:
    """Yield names and images ``(B, 3, H, W)`` in [0, 1] to compare on: of the support, then random ones.

    Args:
        supports: Files, see :func:`probe_files`; those that are gone are left out.
        size: Height and width, where no others may be.
    """
    for path in supports:
        if Path(path).is_file():
            image = read_image(path)
            image = _middle(image, *(min(side, SUPPORT_SIDE) for side in image.shape[-2:]))
            image = image if size is None else continue_to(_middle(image, *size), *size)
            yield Path(path).name, image[None]
    generator = torch.Generator().manual_seed(0)
    sizes = RANDOM_SIZES if size is None else [(batch, *size) for batch in (1, 3)]
    for batch, height, width in sizes:
        yield "random", torch.rand(batch, 3, height, width, generator=generator)


def probe_files(record: SupportRecord) -> list[str]:
    """Return files of support images and of good ones, on which maps are not the same everywhere as on random ones."""
    return [*record["images"][:SUPPORTS], *record.get("good", [])[:SUPPORTS]]


def gone(supports: Sequence[str]) -> list[str]:
    """Return the names of those that are no files (arrays have made-up names) or gone: nothing is compared on them."""
    return [Path(path).name for path in supports if not Path(path).is_file()]


def _middle(image: Tensor, height: int, width: int) -> Tensor:
    """Cut the middle out of an image ``(3, H, W)``, where it is larger."""
    top, left = (max(length - side, 0) // 2 for length, side in zip(image.shape[-2:], (height, width), strict=True))
    return image[:, top : top + height, left : left + width]


def run_torch(file: Path) -> Runner:
    """Run what was saved by torch."""
    model = torch.load(file, weights_only=False, map_location="cpu")["model"].eval()

    def run(image: Tensor) -> Mapping[str, Tensor]:
        with torch.inference_mode():
            return model(image)._asdict()

    return run


def run_openvino(file: Path) -> Runner:
    """Run an ONNX or OpenVINO model on the CPU; on new ones OpenVINO would take BF16 by itself."""
    compiled = core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(image: Tensor) -> Mapping[str, Tensor]:
        output = compiled(image.numpy())
        return {name: torch.from_numpy(output[name]) for name in ("anomaly_map", "pred_score")}

    return run
