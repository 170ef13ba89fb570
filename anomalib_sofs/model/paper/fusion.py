"""Parameter-free fusion of the query with the marked support cells (step 8)."""

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

TEMPERATURE = 0.1
"""Of the softmax over the query cells."""


def fuse(query: Tensor, support: Tensor, shares: Tensor) -> Tensor:
    """Add to each query cell the support cells that attend to it.

    The softmax runs over the QUERY cells: every support cell hands out its weight once, to the cells most like it.

    Args:
        query: Query cells ``(B, C, h, w)``.
        support: Support cells inside the mask ``(T, C)``; none is allowed.
        shares: Their defect shares ``(T,)``.

    Returns:
        Fused query cells ``(B, C, h, w)``.
    """
    tokens = query.flatten(2)
    cosine = F.normalize(support, dim=-1, eps=1e-7) @ F.normalize(tokens, dim=1, eps=1e-7)
    attention = (cosine * shares[:, None] / TEMPERATURE).softmax(dim=-1)
    gained = (support * shares[:, None]).T @ attention
    return query + gained.unflatten(-1, query.shape[-2:])
