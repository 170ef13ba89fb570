"""Rendered parts: what they show, and that the same arguments give the same bytes."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from anomalib_sofs.data.surfaces import SURFACES, defect_classes, render

SIZE = (128, 128)


def difference(surface: str, defect: str, seed: int = 1) -> tuple[float, float]:
    """Mean difference from the same part without the defect, in the mask and well away from it."""
    good, _ = render(surface, None, style=0, seed=seed, size=SIZE)
    image, mask = render(surface, defect, style=0, seed=seed, size=SIZE, distractor=False)
    change = np.abs(image.astype(int) - good).mean(axis=2)
    away = cv2.dilate(mask, np.ones((15, 15), np.uint8)) == 0
    return float(change[mask > 0].mean()), float(change[away].mean())


@pytest.mark.parametrize("surface", sorted(SURFACES))
def test_a_defect_is_where_its_mask_is(surface):
    inside, outside = zip(*(difference(surface, defect) for defect in defect_classes(surface)), strict=True)
    assert np.median(inside) > 2 * np.median(outside)


@pytest.mark.parametrize("surface", sorted(SURFACES))
def test_a_good_part_has_nothing_marked(surface):
    image, mask = render(surface, None, style=0, seed=1, size=(64, 96))
    assert image.shape == (64, 96, 3)
    assert mask.shape == (64, 96)
    assert not mask.any()


def test_another_process_renders_the_same_bytes():
    call = "render('casting', 'crack', style=3, seed=4, size=(96, 80))"
    program = f"from anomalib_sofs.data.surfaces import render; i, m = {call}; print(i.tobytes().hex(), m.sum())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    image, mask = render("casting", "crack", style=3, seed=4, size=(96, 80))
    assert done.stdout.split() == [image.tobytes().hex(), str(mask.sum())]


def test_a_borrowed_look_changes_the_defect_and_nothing_else():
    own, own_mask = render("casting", "pit", style=3, seed=4, distractor=False)
    same, _ = render("casting", "pit", style=3, seed=4, distractor=False, look=3)
    _, other_mask = render("casting", "pit", style=3, seed=4, distractor=False, look=8)
    assert np.array_equal(own, same)
    assert not np.array_equal(own_mask, other_mask)
    good, good_mask = render("casting", None, style=3, seed=4)
    assert np.array_equal(good, render("casting", None, style=3, seed=4, look=8)[0])
    assert not good_mask.any()


def test_an_unknown_defect_names_those_that_are_known():
    with pytest.raises(ValueError, match=r"unknown defect 'rust' of 'wood', known are: .*scratch"):
        render("wood", "rust", style=0, seed=0)
