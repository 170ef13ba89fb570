"""The coreset of the background cells, and support sets of many crops."""

import pytest
import torch

from anomalib_sofs.model.paper import head as paper_head
from anomalib_sofs.model.paper.background import abnormal_priors
from anomalib_sofs.model.paper.coreset import coreset
from anomalib_sofs.model.paper.head import PaperHead
from anomalib_sofs.model.paper.normality import AbnormalPriorDetector
from anomalib_sofs.windows import Windows


def clusters(each: int = 50) -> torch.Tensor:
    """Cells around four directions, by far the most around the first."""
    centres = torch.eye(4).repeat_interleave(torch.tensor([each * 7, each, each, each]), dim=0)
    noise = torch.randn(centres.shape, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(centres + 0.02 * noise, dim=1)


@pytest.mark.parametrize(("size", "count"), [(0.1, 50), (0.001, 1), (4, 4), (500, 500), (10**6, 500)])
def test_a_size_is_a_share_below_one_and_a_number_above(size, count):
    assert len(coreset(clusters(), size)) == count


def test_few_cells_stand_for_every_kind_of_background():
    cells = clusters()
    chosen = coreset(cells, 4)
    assert sorted(chosen.argmax(dim=1).tolist()) == [0, 1, 2, 3]
    assert bool((cells @ chosen.T).amax(dim=1).min() > 0.95)
    assert all(any(torch.equal(row, cell) for cell in cells) for row in chosen)


def test_the_choice_is_always_the_same_and_leaves_the_random_state_alone(capfd):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = coreset(clusters(), 0.05)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(coreset(clusters(), 0.05), first)
    assert capfd.readouterr().err == ""  # no progress bar per layer and support set


def test_a_size_of_nothing_is_refused():
    with pytest.raises(ValueError, match="give a share of the background cells"):
        coreset(clusters(), 0)


def paper(**options: object) -> PaperHead:
    torch.manual_seed(0)
    return PaperHead([6, 4], 8, 8, **options).eval()


def crops(count: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    masks = torch.zeros(count, 32, 32)
    masks[:, 4:9, 6:13] = 1
    return [torch.randn(count, channels, 8, 8, generator=generator) for channels in (6, 4)], masks


def test_the_head_keeps_the_coreset_of_its_background_only():
    features, masks = crops(3)
    full, reduced = paper().encode_class(features, masks), paper(coreset=20).encode_class(features, masks)
    for name, value in full.items():
        if name.startswith("background_cells"):
            assert reduced[name].shape == (20, value.shape[1])
        else:
            assert torch.equal(reduced[name], value)
    # fewer cells to compare with: nothing looks less abnormal than before
    with torch.no_grad():
        assert bool((abnormal_priors(features, reduced) >= abnormal_priors(features, full) - 1e-6).all())


def test_normality_alone_has_a_coreset_too():
    features, _ = crops(2)
    single = [[layer[i : i + 1] for layer in features] for i in range(2)]
    detector = AbnormalPriorDetector(Windows(32, 4), coreset=0.1)
    assert detector.describe(single, [0, 1])["background_cells_0"].shape == (13, 6)


def test_crops_that_pass_the_transformer_in_portions_equal_all_at_once(monkeypatch):
    features, masks = crops(10)
    with torch.no_grad():
        portions = paper().encode_class(features, masks)
        monkeypatch.setattr(paper_head, "CROPS", 10)
        at_once = paper().encode_class(features, masks)
    for name, value in at_once.items():
        torch.testing.assert_close(portions[name], value, atol=1e-5, rtol=0)


def test_no_more_than_a_few_crops_pass_the_transformer_at_once():
    head, seen = paper(), []
    head.stages.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    features, masks = crops(64)
    with torch.no_grad():
        head.encode_class(features, masks)
    assert seen == [paper_head.CROPS] * 16
