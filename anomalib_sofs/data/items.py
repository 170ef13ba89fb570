"""Episode items and batches: anomalib's own, plus the support set."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from anomalib.data import ImageBatch, ImageItem, NumpyImageBatch, NumpyImageItem
from torch import Tensor


@dataclass
class EpisodeFields:
    """What an episode adds to an image.

    Training episodes carry support crops, or say which crops of the batch are theirs; evaluation episodes carry the
    support's files, which the model reads and encodes once for all queries that share them.
    """

    support_image: Any = None
    """Support crops ``([B,] S, 3, c, c)`` in [0, 1]."""
    support_mask: Any = None
    """Support masks ``([B,] S, c, c)``."""
    supports: Any = None
    """Which crops of its group support an episode ``([B,] E)``, bool, where episodes share crops."""
    support_paths: Any = None
    """Files of the support images, a list per query."""
    support_mask_paths: Any = None
    """Files of their masks, ``""`` for a normal image."""
    category: Any = None
    """Category (object) of the query."""
    defect_class: Any = None
    """Class that the support marks."""
    ignore_mask: Any = None
    """Pixels that count neither as defect nor as normal ``([B,] H, W)``, bool; ``None`` where there are none."""
    counted: Any = None
    """Whether the query counts for this class's IoU; normal queries do not."""


@dataclass
class NumpyEpisodeItem(EpisodeFields, NumpyImageItem):
    """Episode as numpy arrays."""


@dataclass
class NumpyEpisodeBatch(EpisodeFields, NumpyImageBatch):
    """Episodes as numpy arrays."""

    item_class: ClassVar[type[NumpyEpisodeItem]] = NumpyEpisodeItem


@dataclass
class EpisodeItem(EpisodeFields, ImageItem):
    """One query with its support set."""

    numpy_class: ClassVar[type[NumpyEpisodeItem]] = NumpyEpisodeItem


@dataclass
class EpisodeBatch(EpisodeFields, ImageBatch):
    """Queries of one size, each with its support set."""

    item_class: ClassVar[type[EpisodeItem]] = EpisodeItem
    numpy_class: ClassVar[type[NumpyEpisodeBatch]] = NumpyEpisodeBatch


TENSORS = ("image", "gt_mask", "gt_label", "support_image", "support_mask", "supports", "counted")
LISTS = ("image_path", "mask_path", "support_paths", "support_mask_paths", "category", "defect_class")


def collate_episodes(items: Sequence[EpisodeItem]) -> EpisodeBatch:
    """Collate episodes without ever resizing an image.

    Args:
        items: Episodes with images of one size.

    Returns:
        A batch; ``support_paths`` and the like are lists with one entry per query.

    Raises:
        ValueError: If the images differ in size.
    """
    sizes = sorted({tuple(item.image.shape[-2:]) for item in items if item.image is not None})
    if len(sizes) > 1:
        msg = (
            f"A batch of images with different sizes ({', '.join(f'{w} x {h}' for h, w in sizes)} pixels) would have "
            "to be resized, and small defects would be lost. Use eval_batch_size=1."
        )
        raise ValueError(msg)
    fields: dict[str, Any] = {}
    for name in TENSORS:
        values = [getattr(item, name) for item in items]
        if all(isinstance(value, Tensor) for value in values):
            fields[name] = torch.stack(values)
    for name in LISTS:
        values = [getattr(item, name) for item in items]
        if any(value is not None for value in values):
            fields[name] = values
    if any(item.ignore_mask is not None for item in items):
        fields["ignore_mask"] = torch.stack(
            [
                torch.zeros_like(image[0], dtype=torch.bool) if item.ignore_mask is None else item.ignore_mask
                for item, image in zip(items, fields["image"], strict=True)
            ]
        )
    return EpisodeBatch(**fields)
