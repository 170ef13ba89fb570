"""The two similarity maps: target semantic prior (step 3) and abnormal prior (step 4).

Each prior has a support half that is computed once per support set, and a query half. Only cells with a share above
0 enter the first, so the query pays for a handful of cells instead of thousands; the result equals the dense form.
"""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

EPSILON = 1e-7
CHUNK = 4096  # support cells compared at once: bounds memory at h * w * CHUNK floats, whatever the shot count


def defect_cells(features: Tensor, shares: Tensor) -> Tensor:
    """Collect the unit feature vectors of all support cells that touch the defect.

    Args:
        features: Support features ``(N, D, h, w)``.
        shares: Defect share of each cell ``(N, h, w)``.

    Returns:
        ``(N, K, D)``, the rows of each image padded with zeros: a cell outside the mask counts as similarity 0, so
        every image with such a cell keeps at least one zero row. ``K`` is at least 1.
    """
    inside = shares.flatten(1) > 0
    cells = inside.shape[1]
    count = int((inside.sum(dim=1) + 1).clamp(max=cells).max())
    # a stable sort moves the inside cells to the front in grid order
    order = inside.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :count]
    vectors = _unit_cells(features)
    picked = vectors.gather(1, order.unsqueeze(-1).expand(-1, -1, vectors.shape[-1]))
    return picked * inside.gather(1, order).unsqueeze(-1)


def target_semantic_prior(query: Tensor, cells: Tensor) -> Tensor:
    """Similarity of each query cell to the marked defect (step 3).

    Args:
        query: Query features ``(B, D, h, w)``.
        cells: Defect cells ``(N, K, D)`` from :func:`defect_cells`.

    Returns:
        ``(B, h, w)``: the mean over support images of the largest cosine.
    """
    columns = _unit_cells(query).transpose(1, 2)  # rows cost more than the product with a handful of others
    largest = torch.stack([(image_cells @ columns).amax(dim=1) for image_cells in cells]).mean(dim=0)
    return largest.unflatten(1, query.shape[-2:])


def background_cells(features: Tensor, shares: Tensor, usable: Tensor | None = None) -> Tensor:
    """Collect the unit feature vectors of the support background, each times ``1 - share``.

    Args:
        features: Support features ``(N, D, h, w)``.
        shares: Defect share of each cell ``(N, h, w)``.
        usable: Which cells count ``(N, h, w)``, bool; ``None`` for all.

    Returns:
        ``(M, D)``. Fully masked cells contribute a similarity of 0; all of them together are one zero row.
    """
    weight = 1 - shares.flatten()
    vectors = _unit_cells(features).flatten(0, 1)
    if usable is not None:
        weight, vectors = weight[usable.flatten()], vectors[usable.flatten()]
    kept = vectors[weight > 0] * weight[weight > 0].unsqueeze(-1)
    if bool((weight > 0).all()):
        return kept
    return torch.cat([kept, kept.new_zeros(1, kept.shape[-1])])


def abnormal_prior(query: Tensor, cells: Tensor) -> Tensor:
    """Distance of each query cell to everything normal in the support set (step 4).

    Args:
        query: Query features ``(B, D, h, w)``.
        cells: Background cells ``(M, D)`` from :func:`background_cells`.

    Returns:
        ``(B, h, w)``: one minus the largest weighted cosine.
    """
    # query cells are rows, as the others are: with thousands of these, columns take half as long again
    rows = _unit_cells(query)
    largest = torch.stack([(rows @ part.T).amax(dim=-1) for part in cells.split(CHUNK)]).amax(dim=0)
    return 1 - largest.unflatten(1, query.shape[-2:])


def _unit_cells(features: Tensor) -> Tensor:
    """Return the cells of features ``(B, D, h, w)`` as unit vectors ``(B, h * w, D)``."""
    return F.normalize(features.flatten(2).transpose(1, 2), dim=-1, eps=EPSILON)
