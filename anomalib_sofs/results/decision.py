"""What counts as a defect where no post-processor has decided it."""

from typing import Any

DECISION = 0.5
"""A pixel is a defect where its value in a map exceeds this; maps are shifted or normalised so that it fits."""


def decide(probability: Any) -> Any:  # noqa: ANN401 - an array or a tensor
    """Return which pixels of a map in [0, 1] are defects; works for arrays of numpy and tensors alike."""
    return probability > DECISION


def found_classes(batch: Any) -> Any:  # noqa: ANN401 - a batch of anomalib's or of ours
    """Return the class of every pixel ``(B, H, W)``, 0 where nothing was found.

    The post-processor decides. Without one (``post_processor=False``) every pixel above :data:`DECISION` is found.
    """
    decided = getattr(batch, "class_map", None)
    if decided is not None:
        return decided
    mask = getattr(batch, "pred_mask", None)
    if mask is None:
        mask = decide(batch.anomaly_map)
    best = getattr(batch, "best_class", None)
    return mask if best is None else mask * best
