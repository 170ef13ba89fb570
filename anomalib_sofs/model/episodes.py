"""Training episodes as tensors: which crops are queries, which support them, each encoded once."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

Features = list[Tensor]  # one (1, D_l, h, w) per layer


class Episodes(NamedTuple):
    """A batch of episodes over a bank of support crops."""

    queries: Tensor
    """Normalised query crops ``(B, 3, c, c)``."""
    masks: Tensor
    """Their masks ``(B, c, c)``."""
    crops: Tensor | None
    """Normalised support crops ``(N, 3, c, c)``; ``None`` where the queries support each other."""
    crop_masks: Tensor
    """Masks of the support crops ``(N, c, c)``."""
    members: list[list[int]]
    """Which of the support crops belong to each query."""


def own_crops(queries: Tensor, masks: Tensor, support: Tensor, support_masks: Tensor) -> Episodes:
    """Make episodes with support crops of their own.

    Args:
        queries: Normalised ``(B, 3, c, c)``.
        masks: ``(B, c, c)``.
        support: Normalised support crops ``(B, S, 3, c, c)``.
        support_masks: ``(B, S, c, c)``.
    """
    count = support.shape[1]
    members = [list(range(b * count, (b + 1) * count)) for b in range(len(queries))]
    return Episodes(queries, masks, support.flatten(0, 1), support_masks.flatten(0, 1), members)


def shared_crops(queries: Tensor, masks: Tensor, supports: Tensor) -> Episodes:
    """Make groups of episodes over the same crops: every crop is the query of an episode, and supports others.

    Args:
        queries: Normalised crops ``(B, 3, c, c)``, E of each group in turn.
        masks: Their masks ``(B, c, c)``.
        supports: Which crops of its group support each episode ``(B, E)``, bool.
    """
    size = supports.shape[1]
    members = [[b // size * size + i for i in row.nonzero()[:, 0].tolist()] for b, row in enumerate(supports)]
    return Episodes(queries, masks, None, masks, members)


def episodes_of(batch: Any, normalise: Callable[[Tensor], Tensor]) -> Episodes | None:
    """Read the episodes off a batch, ``None`` where it has none; images were normalised, support crops were not."""
    if getattr(batch, "supports", None) is not None:
        return shared_crops(batch.image, batch.gt_mask, batch.supports)
    if getattr(batch, "support_image", None) is not None:
        return own_crops(batch.image, batch.gt_mask, normalise(batch.support_image), batch.support_mask)
    return None


def episode_features(
    episodes: Episodes, extract: Callable[[Tensor], Features]
) -> tuple[list[Features], list[Features]]:
    """Extract features, once for each crop.

    Args:
        episodes: The episodes.
        extract: Turns normalised crops ``(n, 3, c, c)`` into features, one ``(n, D_l, h, w)`` per layer.

    Returns:
        The features of each query, and of each support crop.
    """
    queries = one_by_one(extract(episodes.queries))
    return queries, queries if episodes.crops is None else one_by_one(extract(episodes.crops))


def one_by_one(features: Features) -> list[Features]:
    """Part features ``(B, D_l, h, w)`` per layer into B times ``(1, D_l, h, w)`` per layer."""
    return [list(layers) for layers in zip(*(layer.split(1) for layer in features), strict=True)]
