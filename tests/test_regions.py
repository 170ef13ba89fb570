"""Found regions as plain data, and outlines that leave the defect visible."""

import numpy as np
import pytest

from anomalib_sofs.results.regions import describe_regions
from anomalib_sofs.visualization.panels import FOUND, heat, outline, point_out, side_by_side


def test_regions_are_described_exactly_largest_first():
    mask, score = np.zeros((10, 20), bool), np.zeros((10, 20), np.float32)
    mask[1, 2] = True
    score[1, 2] = 0.75
    mask[4:6, 10:13] = True
    score[4:6, 10:13] = [[0.5, 0.6, 0.7], [0.6, 0.6, 0.9]]
    score[9, 19] = 0.99  # outside of every region
    assert describe_regions(mask, score, "dent") == [
        {
            "class": "dent",
            "box": [10, 4, 3, 2],
            "area_pixels": 6,
            "area_percent": 3.0,
            "mean_probability": 0.65,
            "peak_probability": 0.9,
        },
        {
            "class": "dent",
            "box": [2, 1, 1, 1],
            "area_pixels": 1,
            "area_percent": 0.5,
            "mean_probability": 0.75,
            "peak_probability": 0.75,
        },
    ]


def test_diagonal_neighbours_are_one_region():
    mask = np.eye(4, dtype=bool)
    (region,) = describe_regions(mask, np.full((4, 4), 0.5), "crack")
    assert (region["box"], region["area_pixels"], region["area_percent"]) == ([0, 0, 4, 4], 4, 25.0)


def test_an_empty_mask_has_no_regions():
    assert describe_regions(np.zeros((3, 3), bool), np.zeros((3, 3)), "crack") == []


@pytest.mark.parametrize(("y", "x"), [(2, 2), (0, 0), (4, 4), (0, 3)])
def test_an_outline_does_not_paint_over_a_one_pixel_defect(y, x):
    image = np.full((5, 5, 3), 77, np.uint8)
    image[y, x] = (1, 2, 3)
    mask = np.zeros((5, 5), bool)
    mask[y, x] = True
    drawn = outline(image, mask, FOUND)
    assert drawn[y, x].tolist() == [1, 2, 3]
    assert image[(image == FOUND).all(2)].size == 0  # the image itself is left alone
    ring = (drawn == FOUND).all(axis=2)
    neighbours = {(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)}
    inside = {(a, b) for a, b in neighbours if 0 <= a < 5 and 0 <= b < 5}
    assert inside <= {(int(a), int(b)) for a, b in np.argwhere(ring)}
    assert drawn[~ring & ~mask].tolist() == [[77, 77, 77]] * int((~ring & ~mask).sum())


def test_an_outline_never_covers_any_marked_pixel():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)
    mask = rng.random((30, 40)) < 0.2
    assert np.array_equal(outline(image, mask, FOUND)[mask], image[mask])


def test_small_pictures_are_enlarged_by_a_whole_number_so_that_pixels_stay_visible():
    picture = np.zeros((40, 50, 3), np.uint8)
    joined = side_by_side([("a", picture), ("b", picture)])
    assert joined.size == (2 * 50 * 6 + 6, 40 * 6 + 18)  # 50 px grow six times to reach 256
    assert side_by_side([("a", picture)], footer="legend").size == (300, 40 * 6 + 36)


def test_heat_is_stronger_where_the_score_is_higher():
    grey = np.full((1, 2, 3), 100, np.uint8)
    low, high = heat(grey, np.array([[0.0, 1.0]]))[0].astype(int)
    assert abs(high - 100).max() > 2 * abs(low - 100).max()


def test_small_pictures_stand_in_one_row_and_large_ones_on_a_canvas_like_a_screen():
    small, large = np.zeros((100, 300, 3), np.uint8), np.zeros((300, 1000, 3), np.uint8)
    assert side_by_side([("a", small)] * 4).size == (4 * 300 + 3 * 6, 100 + 18)
    # 3018 pixels in a row: one below the other is nearer to a screen's shape
    assert side_by_side([("a", large)] * 3).size == (1000, 3 * (300 + 18) + 2 * 6)
    broad = np.zeros((1200, 1600, 3), np.uint8)  # letters, lines and gaps are twice as large
    assert side_by_side([("a", broad)] * 2).size == (2 * 1600 + 12, 1200 + 36)


def test_a_much_smaller_picture_is_enlarged_by_a_whole_number_to_be_seen_beside_the_others():
    joined = side_by_side(
        [("support", np.zeros((100, 100, 3), np.uint8)), ("query", np.zeros((350, 350, 3), np.uint8))]
    )
    assert joined.size == (300 + 6 + 350, 350 + 18)


def test_only_defects_that_are_easily_overlooked_get_a_frame():
    image, mask = np.full((1000, 1000, 3), 77, np.uint8), np.zeros((1000, 1000), bool)
    mask[500:502, 300:303] = True  # tiny
    mask[100:400, 600:900] = True
    drawn = point_out(image, mask, FOUND)
    ys, xs = np.nonzero((drawn == FOUND).all(axis=2))
    assert (ys.min(), ys.max(), xs.min(), xs.max()) == (480, 521, 280, 322)  # 20 pixels around it
    assert (drawn[481:521, 281:322] == 77).all()


def test_the_outline_of_a_class_does_not_cover_another_one():
    classes = np.repeat([[0, 1, 2, 0]], 4, axis=0)
    drawn = outline(np.zeros((4, 4, 3), np.uint8), classes == 1, FOUND, others=classes > 0)
    assert (drawn == FOUND).all(axis=2).tolist() == [[True, False, False, False]] * 4
