"""ADFD against the equation written out with loops, and where its printed form breaks."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magictalk.errors import OptionError
from magictalk.metrics.functional.dynamics import adfd

DIAGONAL = 500.0


def written_out(generated, reference, printed):
    place = movement = 0.0
    for a, b in zip(generated, reference, strict=True):
        place += 1 - math.sqrt(sum((p - q) ** 2 for p, q in zip(a.flat, b.flat, strict=True))) / DIAGONAL
    for t in range(1, len(generated)):
        m, n = (x[t] - x[t - 1] for x in (generated, reference))
        dot = sum(p * q for p, q in zip(m.flat, n.flat, strict=True))
        lengths = math.sqrt(sum(p * p for p in m.flat)) * math.sqrt(sum(q * q for q in n.flat))
        movement += (dot + 1) / (2 * lengths) if printed else (dot / lengths + 1) / 2
    return place / len(generated) * movement / (len(generated) - 1)


@given(st.integers(2, 8), st.integers(1, 20), st.booleans(), st.integers(0, 99))
def test_agrees_with_the_equation(frames, points, printed, seed):
    generated, reference = np.random.default_rng(seed).normal(250, 30, (2, frames, points, 2))
    value = adfd(generated, reference, DIAGONAL, printed=printed)
    assert value == pytest.approx(written_out(generated, reference, printed))
    assert adfd(generated, reference, DIAGONAL, w1=0.5, w2=3, printed=printed) == pytest.approx(1.5 * value)


def walk(scale=1.0):
    return np.random.default_rng(0).normal(0, scale, (30, 68, 2)).cumsum(0)


def test_a_perfect_video_scores_one():
    assert adfd(walk(), walk(), DIAGONAL) == pytest.approx(1)
    assert adfd(walk(), walk() + np.array([30.0, 40.0]), DIAGONAL) == pytest.approx(1 - 50 * math.sqrt(68) / DIAGONAL)


def test_the_printed_form_depends_on_the_length_of_the_vectors():
    assert adfd(walk(1e3), walk(1e3), DIAGONAL, printed=True) == pytest.approx(0.5, abs=1e-4)
    assert adfd(walk(1e-3), walk(1e-3), DIAGONAL, printed=True) > 1000
    still = np.zeros((3, 68, 2))
    assert adfd(still, still, DIAGONAL, printed=True) == math.inf


def test_faces_at_rest_move_alike():
    still = np.zeros((30, 68, 2))
    assert adfd(still, still, DIAGONAL) == 1
    assert adfd(still, 1e-9 * walk(), DIAGONAL) == pytest.approx(0.5)
    assert adfd(walk(1e-3)[::-1], walk(1e-3), 1e9) < 0.6


def test_opposite_motion_scores_nothing():
    a = 1e-6 * walk()
    assert adfd(a, -a, DIAGONAL) == pytest.approx(0, abs=1e-6)


def test_one_frame_does_not_move():
    with pytest.raises(OptionError, match="T at least 2"):
        adfd(np.zeros((1, 68, 2)), np.zeros((1, 68, 2)), DIAGONAL)
