"""The curve of distances: against SciPy, and on features shifted by a known number of frames."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from magictalk.errors import OptionError
from magictalk.metrics.functional.sync import distances_by_shift, read_curve


@given(st.integers(1, 60), st.integers(0, 20), st.integers(0, 99))
def test_agrees_with_scipy(frames, shifts, seed):
    picture, sound = np.random.default_rng(seed).normal(size=(2, frames, 8))
    everything = cdist(picture, np.pad(sound, ((shifts, shifts), (0, 0))))
    expected = [np.diagonal(everything, k).mean() for k in range(2 * shifts + 1)]
    assert distances_by_shift(picture, sound, shifts) == pytest.approx(np.array(expected))


@pytest.mark.parametrize("late", [-4, 0, 6])
def test_the_shift_is_found(late):
    walk = np.random.default_rng(0).normal(size=(140, 16))
    picture, sound = walk[20:120], walk[20 - late : 120 - late]  # picture[t] = sound[t + late]
    figures = read_curve(distances_by_shift(picture, sound))
    assert figures.offset_s == pytest.approx(late / 25)
    assert figures.distance < 0.3 and figures.confidence > 4


def test_figures_of_a_written_curve():
    figures = read_curve([9.0, 7.0, 8.0, 8.5, 10.0])
    assert (figures.offset_s, figures.distance, figures.confidence) == (-1 / 25, 7.0, 1.5)


def test_features_must_belong_together():
    with pytest.raises(OptionError, match="two alike"):
        distances_by_shift(np.zeros((3, 4)), np.zeros((2, 4)))
