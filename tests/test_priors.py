"""Only support cells inside the mask enter steps 2, 3, 7 and 8; the results equal the dense formulas of the paper."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from anomalib_sofs.model.downsampling import downsample_mask
from anomalib_sofs.model.paper import priors
from anomalib_sofs.model.paper.fusion import fuse
from anomalib_sofs.model.paper.head import PaperHead
from anomalib_sofs.model.paper.priors import abnormal_prior, background_cells, defect_cells, target_semantic_prior
from anomalib_sofs.model.paper.prototypes import masked_mean

quick = settings(max_examples=25, deadline=None)
PATCH = 4


@st.composite
def episodes(draw) -> tuple[Tensor, Tensor, Tensor]:
    """Query features, support features and pixel masks: empty, full, single pixels and anything between."""
    h, w, shots, width = (
        draw(st.integers(1, 5)),
        draw(st.integers(1, 5)),
        draw(st.integers(1, 4)),
        draw(st.integers(2, 6)),
    )
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    # a constant added to all features makes every cosine positive or negative: the zeros of step 3 then matter
    shift = draw(st.sampled_from([-3.0, 0.0, 3.0]))
    query = torch.randn(2, width, h, w, generator=generator) + shift
    support = torch.randn(shots, width, h, w, generator=generator) + draw(st.sampled_from([-3.0, 0.0, 3.0]))
    share = [draw(st.sampled_from([0.0, 0.02, 0.3, 1.0])) for _ in range(shots)]
    noise = torch.rand(shots, h * PATCH, w * PATCH, generator=generator)
    return query, support, (noise < torch.tensor(share)[:, None, None]).float()


def dense_shares(masks: Tensor) -> Tensor:
    """The mean of the mask over each patch."""
    n, height, width = masks.shape
    return masks.view(n, height // PATCH, PATCH, width // PATCH, PATCH).mean((2, 4))


def dense_semantic(query: Tensor, support: Tensor, shares: Tensor) -> Tensor:
    """Step 3, cell by cell: a cell outside of the mask counts as similarity 0."""
    maps = []
    for features, share in zip(support, shares, strict=True):
        vectors = (features * share).flatten(1)
        best = torch.full((len(query), *query.shape[-2:]), -9.0)
        for y in range(vectors.shape[1]):
            dot = torch.einsum("bdhw,d->bhw", query, vectors[:, y])
            best = torch.maximum(best, dot / (query.norm(dim=1) * vectors[:, y].norm() + 1e-7))
        maps.append(best)
    return torch.stack(maps).mean(0)


def dense_abnormal(query: Tensor, support: Tensor, shares: Tensor) -> Tensor:
    """Step 4 over every cell of every support image."""
    cosine = torch.einsum("bdhw,ndk->bnkhw", query, support.flatten(2))
    cosine = cosine / (query.norm(dim=1)[:, None, None] * support.flatten(2).norm(dim=1)[None, :, :, None, None] + 1e-7)
    return 1 - (cosine * (1 - shares.flatten(1))[None, :, :, None, None]).amax((1, 2))


def close(ours: Tensor, dense: Tensor) -> None:
    torch.testing.assert_close(ours, dense, atol=1e-5, rtol=1e-6)  # one float32 step at values of 8 and more


@quick
@given(episodes())
def test_area_downsampling_is_the_mean_of_each_patch(episode):
    _, support, masks = episode
    close(downsample_mask(masks, tuple(support.shape[-2:])), dense_shares(masks))


@quick
@given(episodes())
def test_target_semantic_prior_equals_the_dense_form(episode):
    query, support, masks = episode
    shares = dense_shares(masks)
    close(target_semantic_prior(query, defect_cells(support, shares)), dense_semantic(query, support, shares))


@quick
@given(episodes())
def test_abnormal_prior_equals_the_dense_form(episode):
    query, support, masks = episode
    shares = dense_shares(masks)
    close(abnormal_prior(query, background_cells(support, shares)), dense_abnormal(query, support, shares))


@quick
@given(episodes())
def test_prototype_equals_the_dense_form(episode):
    _, support, masks = episode
    shares = dense_shares(masks)
    for features, share, ours in zip(support, shares, masked_mean(support, shares), strict=True):
        total = sum(features[:, y, x] * share[y, x] for y in range(share.shape[0]) for x in range(share.shape[1]))
        close(ours, total / (share.sum() + 0.0005))


@quick
@given(episodes())
def test_fusion_over_the_marked_cells_equals_fusion_over_all(episode):
    query, support, masks = episode
    shares = dense_shares(masks)
    cells = support.permute(0, 2, 3, 1)
    cosine = torch.cosine_similarity(
        query.flatten(2).transpose(1, 2)[:, None], cells.flatten(0, 2)[None, :, None], dim=-1
    )
    attention = (cosine * shares.flatten()[None, :, None] / 0.1).softmax(dim=-1)  # over the query's cells
    gained = torch.einsum("bsx,s,sc->bcx", attention, shares.flatten(), cells.flatten(0, 2))
    close(fuse(query, cells[shares > 0], shares[shares > 0]), query + gained.view_as(query))


@settings(max_examples=10, deadline=None)
@given(episodes())
def test_class_vector_is_the_mean_of_the_weighted_means_of_every_support_image(episode):
    _, support, masks = episode
    torch.manual_seed(0)
    head = PaperHead([support.shape[1]], 8, 8).eval()
    shares = dense_shares(masks)
    with torch.no_grad():
        encoding = head.encode_class([support], masks)
        cells, _ = head.reduction.forward_support(support, masked_mean(support, shares))
        classified = head.classifier(head.stages(cells))
    per_image = (classified * shares[:, None]).sum((2, 3)) / (shares.sum((1, 2)) + 0.0005)[:, None]
    close(encoding["class_vector"], per_image.mean(0))
    assert len(encoding["support_cells"]) == len(encoding["support_shares"]) == int((shares > 0).sum())


def test_only_the_marked_cells_are_kept():
    shares = torch.zeros(1, 37, 37)
    shares[0, 5, 5:8] = 0.2
    assert defect_cells(torch.randn(1, 16, 37, 37), shares).shape == (1, 4, 16)  # three, and one zero for all others


def test_background_in_chunks_equals_the_background_at_once(monkeypatch):
    query, support = torch.randn(2, 8, 3, 3), torch.randn(4, 8, 5, 5)
    cells = background_cells(support, torch.zeros(4, 5, 5))
    at_once = abnormal_prior(query, cells)
    monkeypatch.setattr(priors, "CHUNK", 7)
    close(abnormal_prior(query, cells), at_once)


@pytest.mark.parametrize("top", range(8, 12))
def test_a_three_pixel_defect_keeps_its_weight_by_area_and_loses_it_by_bilinear_sampling(top):
    mask = torch.zeros(1, 112, 112)
    mask[0, 14 + top : 17 + top, 14:17] = 1  # away from the middle of its cell, where bilinear sampling looks
    area = downsample_mask(mask, (8, 8))
    assert float(area.sum()) == pytest.approx(9 / 14**2)
    assert not downsample_mask(mask, (8, 8), mode="bilinear").any()


def test_the_ablations_do_what_they_say():
    torch.manual_seed(0)
    mask = torch.zeros(1, 56, 56)
    mask[0, 15:18, 15:18] = 1
    support, query = torch.randn(1, 8, 4, 4), torch.randn(1, 8, 4, 4)
    area = PaperHead([8], 8, 8).eval()
    bilinear = PaperHead([8], 8, 8, mask_downsampling="bilinear").eval()
    assert len(area.encode_class([support], mask)["support_cells"]) == 1
    assert len(bilinear.encode_class([support], mask)["support_cells"]) == 0
    without = PaperHead([8], 8, 8, abnormal_prior=False).eval()
    assert area.reduction.merge_query[0].in_channels - without.reduction.merge_query[0].in_channels == 1
    for head, moves in ((area, True), (without, False)):
        encoding = head.encode_class([support], mask)
        changed = encoding | {"background_cells_0": -encoding["background_cells_0"]}
        assert torch.equal(head.classify([query], [encoding]), head.classify([query], [changed])) != moves
