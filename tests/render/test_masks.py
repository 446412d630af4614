"""Soft masks: coverage of simple shapes is known."""

import numpy as np
import pytest

from magictalk.render.masks import affine_from, box_around, inner_mask, invert, paste

SQUARE = np.array([[10, 10], [30, 10], [30, 30], [10, 30]], np.float32)


def test_mask_is_one_inside_zero_outside_and_symmetric():
    mask = inner_mask(SQUARE, (0, 0, 41, 41), 1.0)
    assert mask[20, 20] == 1 and mask[5, 5] == 0 and mask[20, 35] == 0
    np.testing.assert_allclose(mask, mask[::-1], atol=0.25)  # within a tenth of a pixel
    np.testing.assert_allclose(mask, mask.T, atol=0.25)  # within a tenth of a pixel
    assert 17**2 < mask.sum() < 21**2


def test_slits_vanish_without_a_step():
    sums = []
    for height in np.arange(0, 8, 0.5):
        slit = np.array([[10, 20], [30, 20], [30, 20 + height], [10, 20 + height]], np.float32)
        sums.append(inner_mask(slit, (0, 0, 41, 41), 1.5).sum())
    assert sums[0] == 0
    assert (np.diff(sums) >= -1e-3).all()
    assert np.diff(sums).max() < 20  # of the 160 at the end: no jump


def test_box_is_clipped_to_the_picture():
    assert box_around(SQUARE, 15, (32, 25)) == (0, 0, 32, 25)


def test_paste_blends_in_place():
    canvas = np.full((4, 4, 3), 100, np.uint8)
    paste(canvas, (1, 1, 3, 3), np.full((2, 2, 3), 200, np.float32), np.full((2, 2), 0.5, np.float32))
    assert (canvas[1:3, 1:3] == 150).all() and (canvas[0] == 100).all()


@pytest.mark.parametrize("seed", range(3))
def test_affine_maps_its_points_and_inverts(seed):
    rng = np.random.default_rng(seed)
    source, target = rng.normal(size=(2, 3, 2))
    affine = affine_from(source, target)
    np.testing.assert_allclose(source @ affine[:, :2].T + affine[:, 2], target, atol=1e-9)
    back = invert(affine)
    np.testing.assert_allclose(target @ back[:, :2].T + back[:, 2], source, atol=1e-9)
