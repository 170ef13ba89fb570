"""Make a bundle for the runtime without PyTorch, and compare it with the model before it appears under its name."""

import logging
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomalib_sofs.arrays import to_numpy
from anomalib_sofs.model.encoding import SupportEncoding
from anomalib_sofs.model.examples import Examples
from anomalib_sofs.model.exporting.mixin import without_gradients
from anomalib_sofs.model.exporting.parity import gone, probe_files, probes
from anomalib_sofs.model.modes import evaluating
from anomalib_sofs.model.relation.head import RelationHead
from anomalib_sofs.model.support import SupportSet
from anomalib_sofs.runtime.bundle import SUPPORT, Bundle, Precision, written_aside
from anomalib_sofs.runtime.inferencer import SofsInferencer
from anomalib_sofs.runtime.support_file import Encoded, save

from .gate import check, found_again
from .networks import networks, tell_precision, write_network
from .quantisation import quantise

if TYPE_CHECKING:
    from anomalib_sofs.model import Sofs

logger = logging.getLogger(__name__)

ALLOWED = 1e-3
"""Largest difference of maps and scores from PyTorch."""


class BundleParityError(RuntimeError):
    """A bundle does not do what the model in PyTorch does."""


def export_bundle(
    model: "Sofs",
    folder: str | Path,
    precision: Precision = "fp32",
    *,
    support: SupportSet | None = None,
    calibration: str | Path | None = None,
) -> Path:
    """Write a bundle for :class:`~anomalib_sofs.runtime.SofsInferencer`.

    Its support set is that of the model; a model without one makes a bundle that waits for ``set_support``.

    Args:
        model: The model; of the default head.
        folder: Where to write it; an earlier bundle there is replaced when the new one is whole.
        precision: In which networks are computed: ``"fp32"``; ``"bf16"`` where the processor has the instructions;
            ``"int8"``, features quantised by NNCF.
        support: The support set of the model. Lower precisions need its images: it is encoded with what was exported,
            and must be found in itself about as well as in FP32, see :mod:`.gate`.
        calibration: For ``"int8"``, folder of images like those to be searched, beside the support's.

    Returns:
        The folder.

    Raises:
        ValueError: If the precision or the head cannot be had in a bundle, or something else lies in the folder.
        BundleParityError: If the bundle does not do what the model does; nothing is left of it.
        PrecisionError: If a lower precision loses what was marked; nothing is left of it.
        UnwritableError: If it cannot be written; nothing is left of it.
    """
    if precision not in get_args(Precision):
        msg = f"precision={precision!r} is not possible: choose one of {', '.join(get_args(Precision))}."
        raise ValueError(msg)
    inner, head = model.model, model.model.head
    if not isinstance(head, RelationHead):
        msg = (
            "A bundle holds the default head only (head='relation'); the published form is exported by anomalib export "
            "--export_type openvino."
        )
        raise ValueError(msg)  # noqa: TRY004 - what the user chose
    marked = len(inner.support) > 0 and not inner.support.normal
    if precision != "fp32" and marked and support is None:
        msg = (
            f"precision={precision!r} is checked with the images of the support set, and an encoding does not hold "
            "them: give the support set, too (--model.support FOLDER; export_bundle(..., support=...))."
        )
        raise ValueError(msg)
    inner.backbone.ensure_weights()
    folder = Path(folder)
    with written_aside(folder) as aside, evaluating(inner), without_gradients(model):
        for network in networks(inner, head):
            write_network(network, aside)
        if len(inner.support):
            save(encoded(inner.support, model.post_processor), aside / SUPPORT)
        bundle = Bundle(
            precision="fp32",
            window_size=head.windows.size,
            multiple=head.windows.multiple,
            crops_per_shot=inner.crops_per_shot,
            background_windows=head.background_windows,
            turns=list(head.turns),
            channels=list(head.channels.coarse),
            fine_channels=list(head.channels.fine),
            evidence=head.evidence,
            threshold_logit=inner.threshold_logit,
            normal_multiple=inner.detector.windows.multiple,
            made_by=_own_version(),
        )
        bundle.write(aside)
        exact = SofsInferencer(aside)
        if len(inner.support):
            _compare(model, exact)
        if precision != "fp32":
            examples = _as_arrays(support) if support is not None and marked else None
            _lower(exact, replace(bundle, precision=precision), aside, examples, calibration)
    return folder


def _lower(
    exact: SofsInferencer, bundle: Bundle, folder: Path, support: Examples | None, calibration: str | Path | None
) -> None:
    """Bring a bundle to a lower precision, and let it look for its own support set.

    Raises:
        PrecisionError: If it no longer finds it.
    """
    before = {} if support is None else found_again(exact, support)
    if bundle.precision == "int8":
        quantise(exact, folder, support, None if calibration is None else Path(calibration))
    tell_precision(folder, bundle.precision)
    bundle.write(folder)
    if support is None:
        logger.warning(
            "%s counts for marked defects, and none are marked yet: whether it finds them was not checked. Compare "
            "with an FP32 bundle. Anomaly detection is computed in FP32 in any case.",
            bundle.precision.upper(),
        )
        return
    lower = SofsInferencer(folder)
    told, anew = lower.support, lower.encoded(support)
    made = dict(zip(anew.names, anew.encodings, strict=True))
    # limits are logits of images that are not at hand: they stay
    classes = [old | made[name] for name, old in zip(told.names, told.encodings, strict=True)]
    lower.use(replace(told, encodings=classes))
    check(before, found_again(lower, support), bundle.precision)
    save(replace(told, encodings=classes), folder / SUPPORT)
    bundle.write(folder)


def _as_arrays(support: SupportSet) -> Examples:
    """Return a support set as arrays of numpy."""
    return Examples(
        [to_numpy(image) for image in support.images],
        [to_numpy(mask) for mask in support.masks],
        support.labels,
        support.paths,
        [None if region is None else to_numpy(region) for region in support.rejected],
    )


def encoded(support: SupportEncoding, rule: Any = None) -> Encoded:
    """Return a support encoding as arrays of numpy, with what validation images told the post-processor."""
    ranges = {}
    if getattr(rule, "enable_normalization", False):
        values = {
            "map": [float(value) for value in (rule.pixel_min, rule.pixel_max, rule.pixel_threshold)],
            "score": [float(value) for value in (rule.image_min, rule.image_max, rule.image_threshold)],
        }
        ranges = {name: told for name, told in values.items() if np.isfinite(told).all()}
    classes = [{name: to_numpy(value) for name, value in one.items()} for one in support.encodings]
    return Encoded(
        list(support.names), classes, support.normal, support.whole, support.record, support.roi, support.least_area,
        ranges, None if support.contrast is None else encoded(support.contrast),
    )  # fmt: skip


def _compare(model: "Sofs", inferencer: SofsInferencer) -> None:
    """Compare a bundle with PyTorch on random images, and on those that its support set is of.

    Raises:
        BundleParityError: If it does something else.
    """
    support = model.model.support
    sizes: list[tuple[int, int] | None] = [None]
    if support.roi is not None:
        if not support.roi.fixed:
            logger.warning(
                "The bundle was not compared with PyTorch: its regions of interest belong to images by name. Compare "
                "`anomalib-sofs run` with `anomalib-sofs find` on one of them."
            )
            return
        sizes = [(height, width) for height, width, _ in support.roi.masks.values()]
    files = probe_files(support.record)
    if missing := gone(files):
        logger.warning(
            "The bundle was not compared with PyTorch on %s of the support set: not a file, or gone. It was on random "
            "images; give a support set of files, where they are.",
            ", ".join(missing),
        )
    for name, image in (probe for size in sizes for probe in probes(files, size)):
        pixels = (image[0] * 255).round().byte()
        with torch.inference_mode():
            expected = model.model.predict(model.model.normalise(pixels[None].float() / 255))
        found = inferencer.raw(pixels.permute(1, 2, 0).numpy())
        difference = max(_largest(found.maps, expected.maps), _largest(found.score, expected.score))
        if not difference <= ALLOWED:  # also where it is no number
            msg = (
                f"The bundle differs from PyTorch by {difference:.2g} on {name} ({image.shape[3]} x {image.shape[2]} "
                f"pixels); {ALLOWED:g} is allowed. Nothing was written. Please report this."
            )
            raise BundleParityError(msg)


def _largest(found: NDArray[Any], expected: Tensor) -> float:
    return float(np.abs(found - to_numpy(expected)).max())


def _own_version() -> str:
    try:
        return version("anomalib-sofs")
    except PackageNotFoundError:
        return ""
