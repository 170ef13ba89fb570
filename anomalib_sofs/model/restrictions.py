"""What an export can keep of a region of interest and of a least area."""

from collections.abc import Sequence

from .encoding import SupportEncoding


def check_exports(support: SupportEncoding) -> None:
    """Check that an export to torch, which knows no file names, can keep the region of interest.

    Raises:
        ValueError: If it is a folder of masks.
    """
    if support.roi is not None and not support.roi.fixed:
        msg = (
            f"The regions of interest in {support.roi.source} belong to images by name, and an exported model is not "
            "told names. Export with one mask for all images (roi=MASK), or predict with the checkpoint."
        )
        raise ValueError(msg)


def check_graph(support: SupportEncoding, input_size: Sequence[int] | None) -> None:
    """Check that a graph (ONNX, OpenVINO) can keep the region of interest and the least area.

    Args:
        support: The encoding that is exported.
        input_size: Height and width that the graph is made for; ``None`` for any.

    Raises:
        ValueError: If it cannot, with the remedy.
    """
    check_exports(support)
    if support.least_area > 1:
        msg = (
            f"least_area={support.least_area} needs connected regions, which ONNX and OpenVINO have not: the exported "
            "model would find what is dropped here. Export with least_area=1 and drop small regions afterwards, or "
            "export to torch."
        )
        raise ValueError(msg)
    if support.roi is None:
        return
    if input_size is None:
        height, width, _ = next(iter(support.roi.masks.values()))
        msg = (
            f"The region of interest {support.roi.source} fits images of {width} x {height} pixels, but the exported "
            f"model would take any. Export for that size: --input_size [{height},{width}]."
        )
        raise ValueError(msg)
    support.roi.inside(input_size, f"the input_size {list(input_size)}")
