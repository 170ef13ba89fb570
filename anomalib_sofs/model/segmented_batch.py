"""A batch that was segmented: what pictures, results and metrics need travels on it; they never look into the model."""

from collections.abc import Sequence
from typing import Any

import torch

from .encoding import SupportEncoding
from .normality.detector import Prediction
from .torch_model import SofsModel


def segment_batch(model: SofsModel, batch: Any, encodings: Sequence[SupportEncoding]) -> None:
    """Segment each image of a batch by an encoding of its own, and write what was found onto the batch.

    One image after the other: memory stays bounded however large a stock datamodule's batches are.
    """
    files = [[path] if path else None for path in batch.image_path or [None] * len(batch.image)]
    queries = zip(batch.image, encodings, files, strict=True)
    parts = [model.predict(image[None], encoding, file) for image, encoding, file in queries]
    found = Prediction(*map(torch.cat, zip(*parts, strict=True)))
    batch.class_names = encodings[0].names
    batch.best_class = found.maps.argmax(dim=1) + 1
    batch.support_records = [encoding.record for encoding in encodings]
    batch.support_previews = [encoding.preview for encoding in encodings]
    batch.update(anomaly_map=found.maps.amax(dim=1), pred_score=found.score)


def check_finite(batch: Any) -> None:
    """Check that the images of a batch are numbers.

    Raises:
        ValueError: If they hold NaN or infinity, naming them.
    """
    if not bool(torch.isfinite(batch.image).all()):
        msg = f"{batch.image_path} holds values that are not numbers (NaN or infinity)."
        raise ValueError(msg)
