"""Relations on the fine grid: the defect lies 1 above its background, and the light of the query does not count."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anomalib_sofs.arrays import cell_means
from anomalib_sofs.model.relation.discriminant import clear_background
from anomalib_sofs.model.relation.fine_maps import FINE_RELATIONS, fine_grid, relate_fine
from anomalib_sofs.model.relation.fine_statistics import BOTH, FineImage, FineRelations, encode_fine, reduce_fine

CHANNELS = (2, 3)


def _stacked(classes):
    return FineRelations(*map(torch.stack, zip(*classes, strict=True)))


DEFECT = torch.tensor([2.0, 0.0, -1.0, 3.0, 0.5])


def picture(seed: int, size: int = 40, shade: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of noise with a defect of known contrast, and its mask share."""
    grid = 0.3 * torch.randn(5, size, size, generator=torch.Generator().manual_seed(seed)) + shade
    mask = torch.zeros(size, size)
    mask[10:16, 20:30] = 1
    return grid + mask * DEFECT[:, None, None], mask


def reduced(grid: torch.Tensor, mask: torch.Tensor) -> FineImage:
    return reduce_fine(grid, mask, clear_background(cell_means(mask, 2)))


def maps_of(grid: torch.Tensor, shots: int = 1) -> dict[str, torch.Tensor]:
    images = [reduced(*picture(seed, shade=float(seed))) for seed in range(1, 1 + shots)]
    (encoding,) = encode_fine(images, ["pit"] * shots, CHANNELS).values()
    return dict(zip(FINE_RELATIONS, relate_fine(grid[None], _stacked([encoding]))[0], strict=True))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), shade=st.floats(-5, 5), shots=st.integers(1, 3))
def test_a_defect_lies_one_above_its_background_in_any_light(seed, shade, shots):
    grid, mask = picture(seed, shade=shade)
    maps = maps_of(grid, shots)
    for name in ("stride2", "stride4", "both", "both_stiff"):
        step = maps[name][mask > 0].mean() - maps[name][mask == 0].mean()
        assert float(step) == pytest.approx(1, abs=0.15), name
        assert float(maps[name].mean()) == pytest.approx(0, abs=1e-4)
    assert float(maps["both_sigma"][mask > 0].min()) > float(maps["both_sigma"][mask == 0].max())


def test_maps_do_not_depend_on_the_order_in_memory():
    """Convolutions leave the channels of a cell together, files do not."""
    (grid, mask), (other, _) = picture(1), picture(2)
    (encoding,) = encode_fine([reduced(grid, mask)], ["pit"], CHANNELS).values()
    plain, swapped = (
        relate_fine(x, _stacked([encoding])) for x in (other[None], other[None].to(memory_format=torch.channels_last))
    )
    torch.testing.assert_close(plain, swapped, atol=1e-5, rtol=0)


def test_classes_share_a_background_and_not_a_direction():
    (one, mask), (other, _) = picture(1), picture(2)
    other = other - 2 * mask * DEFECT[:, None, None]  # the opposite defect
    images = [reduced(one, mask), reduced(other, mask), reduced(picture(3)[0], torch.zeros(40, 40))]
    encoded = encode_fine(images, ["pit", "bump", "good"], CHANNELS)
    assert list(encoded) == ["bump", "pit"]
    both = relate_fine(one[None], _stacked(encoded.values()))[:, BOTH]
    assert both.shape == (2, 40, 40)
    assert float(both[1][mask > 0].mean()) > 0.7
    assert float(both[0][mask > 0].mean()) < -0.7


def test_strides_2_and_4_meet_on_one_grid():
    finest, fine = torch.arange(16.0).view(1, 1, 4, 4), torch.zeros(1, 2, 2, 2)
    grid = fine_grid([finest, fine])
    assert grid.shape == (1, 3, 2, 2)
    assert grid[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
