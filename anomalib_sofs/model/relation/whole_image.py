"""What is decided on the image as a whole, after its windows were merged."""

from collections.abc import Sequence

from array_api_compat import array_namespace, device

from anomalib_sofs.arrays import Array

from .description import Encoding
from .evidence import NO_PIXEL, shortfall
from .extent import rim
from .marks import Look

PARTS = 2
"""What :func:`weighed` returns side by side."""


def weighed(look: Look, classes: Encoding) -> Array:
    """Return the logits of windows, then what is weighed as evidence ``(n, 2 * K, h, w)``.

    That is the first logits, raised or lowered by how far what was found stands out from its background, compared with
    what was marked.
    """
    more = look.distance - classes["distance"]
    xp = array_namespace(more)
    return look.maps + xp.concat([xp.zeros_like(more), more], axis=1)[..., None, None]


def judged(found: Sequence[Array], classes: Encoding, *, evidence: bool, inside: Array | None = None) -> Array:
    """Return the logits of images ``(B, K, H, W)``.

    Args:
        found: What :func:`weighed` returned, merged and split into its :data:`PARTS`, ``(B, K, H, W)`` each.
        classes: The encoded classes, stacked.
        evidence: Whether an image is good unless it shows about as much of a defect as was marked.
        inside: Pixels that count ``(B or 1, 1, H, W)``; others are no evidence. ``None`` for all.
    """
    xp = array_namespace(found[0])
    if inside is not None:
        nothing = xp.asarray(NO_PIXEL, dtype=found[0].dtype, device=device(found[0]))
        found = [xp.where(inside, maps, nothing) for maps in found]
    logits, counted = found
    peak = xp.max(logits, axis=(2, 3))
    lowered = shortfall(peak, counted, classes["marked"]) if evidence else xp.zeros_like(peak)
    lowered = lowered + rim(peak - lowered)
    return logits - lowered[..., None, None]  # once: maps of a large image are most of the memory
