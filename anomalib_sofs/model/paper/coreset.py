"""A few cells that stand for many: for support sets of many crops."""

import io
from contextlib import redirect_stderr

import torch
from torch import Tensor


def coreset(cells: Tensor, size: float) -> Tensor:
    """Choose cells so that none is far from a chosen one (anomalib's KCenterGreedy), always the same ones.

    Args:
        cells: ``(M, D)``.
        size: Share of the cells if below 1, otherwise their number.

    Returns:
        ``(K, D)``, some of the rows; all of them if there are no more than asked for.

    Raises:
        ValueError: If the size is not positive.
    """
    if size <= 0:
        msg = f"coreset={size}: give a share of the background cells (0.1) or a number of them (1000)."
        raise ValueError(msg)
    count = max(round(size * len(cells)), 1) if size < 1 else int(size)
    if count >= len(cells):
        return cells
    # a third dimension keeps anomalib from a random projection to more dimensions than there are; its first cell is
    from anomalib.models.components.sampling import KCenterGreedy  # noqa: PLC0415 - as InferenceBatch in torch_model

    # random, and its progress bars would come once per layer and support set
    with torch.random.fork_rng(devices=[]), redirect_stderr(io.StringIO()):
        torch.manual_seed(0)
        chosen = KCenterGreedy(cells[:, None], (count + 0.5) / len(cells)).select_coreset_idxs()
    return cells[chosen]
