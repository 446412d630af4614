"""Landmark distances on points whose distance is known."""

import numpy as np
import pytest

from magictalk.metrics.functional.landmarks import IBUG_68, landmark_distance


def test_table_names_68_distinct_points():
    assert len(IBUG_68) == len(set(IBUG_68)) == 68
    assert all(0 <= i < 468 for i in IBUG_68)


def test_moving_the_whole_face_is_no_error():
    points = np.random.default_rng(0).normal(size=(5, 478, 3))
    assert landmark_distance(points + np.array([10, -3, 2]), points) == pytest.approx(0, abs=1e-9)


def test_one_mouth_point_weighs_more_in_m_lmd():
    points = np.zeros((1, 478, 2))
    moved = points.copy()
    moved[0, 13] = [0, 20]
    # one of n points moves by 20: the mean takes 20/n off all others
    for mouth, n in ((True, 20), (False, 68)):
        expected = ((20 - 20 / n) + (n - 1) * 20 / n) / n
        assert landmark_distance(moved, points, mouth=mouth) == pytest.approx(expected)
