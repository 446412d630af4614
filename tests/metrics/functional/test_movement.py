"""Speeds, spectra and diversity of motions whose answers are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.spatial.transform import Rotation

from magictalk.metrics.functional.movement import (
    BAND_HZ,
    FLOOR,
    decibels_apart,
    distribution_distance,
    head_spectra,
    head_speeds,
    point_diversity,
    runs,
    speeds,
    turn_diversity,
    turning,
)


def nodding(degrees=5.0, hertz=1.0, frames=500, axis=0):
    """A head that swings about one axis."""
    rotations = np.zeros((frames, 3))
    rotations[:, axis] = np.deg2rad(degrees) * np.sin(2 * np.pi * hertz * np.arange(frames) / 25)
    return rotations


@given(arrays(float, array_shapes(min_dims=2, max_dims=2), elements=st.sampled_from([0.0, 1.0, np.nan])))
def test_runs_are_all_known_frames_in_order(series):
    found = list(runs(series))
    assert all(len(run) for run in found)
    known = series[np.isfinite(series).all(1)]
    assert np.array_equal(np.concatenate([np.zeros((0, series.shape[1])), *found]), known)


def test_speed_is_the_mean_absolute_slope():
    ramp = np.stack([np.arange(50) / 25, -3 * np.arange(50) / 25], 1)
    assert speeds(ramp) == pytest.approx(np.full(49, 2.0))
    assert speeds(ramp, 0.04)[10:-10] == pytest.approx(np.full(29, 2.0))
    assert speeds(ramp, fps=50.0) == pytest.approx(np.full(49, 4.0))


def test_frames_without_a_face_are_no_movement():
    series = np.repeat([0.0, np.nan, 100.0], [10, 2, 10])[:, None]
    assert speeds(series) == pytest.approx(np.zeros(18)) and len(speeds(series[:1])) == 0
    rotations = np.repeat([[0.0] * 3, [np.nan] * 3, [0.5] * 3], [10, 2, 10], 0)
    assert head_speeds(rotations, 0.08) == pytest.approx(np.zeros(18), abs=1e-9)
    assert len(head_speeds(np.full((5, 3), np.nan))) == 0


def test_smoothing_takes_jitter_and_leaves_motion():
    jitter = np.random.default_rng(0).normal(0, np.deg2rad(0.3), (500, 3))
    true = head_speeds(nodding(hertz=0.5)).mean()
    assert head_speeds(nodding(hertz=0.5) + jitter).mean() > 1.4 * true
    assert head_speeds(nodding(hertz=0.5) + jitter, 0.08).mean() == pytest.approx(true, rel=0.1)


@given(st.integers(0, 999), st.floats(0.1, 90.0))
def test_turning_is_about_the_camera_s_axes(seed, degrees_per_second):
    rng = np.random.default_rng(seed)
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    start = Rotation.from_rotvec(rng.normal(0, 0.2, 3))
    steps = Rotation.from_rotvec(np.deg2rad(degrees_per_second) / 25 * np.arange(20)[:, None] * axis)
    found = turning((steps * start).as_rotvec())
    assert found == pytest.approx(np.tile(degrees_per_second * axis, (19, 1)), abs=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_nod_has_its_power_at_its_frequency(axis):
    spectra = head_spectra(nodding(3.0, 1.0, axis=axis))
    assert spectra.shape == (7, 20, 3)  # 499 velocities: windows of 125 that start 62 apart
    frequency = np.arange(1, 21) * BAND_HZ[0]
    mean = spectra.mean(0)
    assert frequency[mean[:, axis].argmax()] == pytest.approx(1.0)
    assert np.delete(mean, axis, 1).max() < FLOOR
    # all of the power: the variance of a sine of amplitude 3 deg * 2 pi rad/s
    assert mean[:, axis].sum() * BAND_HZ[0] == pytest.approx((3 * 2 * np.pi) ** 2 / 2, rel=0.02)


def test_short_stretches_have_a_window_of_their_own_and_shorter_ones_none():
    assert head_spectra(nodding(frames=49)).shape == (0, 20, 3)
    assert head_spectra(nodding(frames=75)).shape == (1, 20, 3)
    broken = nodding(frames=150)
    broken[75] = np.nan
    assert head_spectra(broken).shape == (2, 20, 3)
    whole = head_spectra(nodding(frames=126)).mean(0)
    assert head_spectra(nodding(frames=76)).sum() == pytest.approx(whole.sum(), rel=0.05)


def test_decibels():
    quiet = np.full((20, 3), 2.0)
    assert decibels_apart(10 * quiet, quiet) == pytest.approx(10) == decibels_apart(quiet, 10 * quiet)
    assert decibels_apart(quiet, quiet) == 0
    assert decibels_apart(np.zeros((20, 3)), quiet) == pytest.approx(10 * np.log10(2 / FLOOR))


@given(arrays(float, 12, elements=st.floats(0, 10)), st.floats(0.1, 5))
def test_distributions_are_as_far_apart_as_they_must_be_moved(real, factor):
    real = real + 0.1
    assert distribution_distance(real, real) == 0
    assert distribution_distance(factor * real, real) == pytest.approx(abs(factor - 1))
    assert distribution_distance(real + 1, real) == pytest.approx(1 / real.mean())


def test_equal_means_are_not_equal_distributions():
    assert distribution_distance([0, 2], [1, 1]) == pytest.approx(1)


def test_diversity_of_points_is_the_mean_over_pairs():
    takes = np.zeros((3, 10, 4, 3))
    takes[1, ..., 0] = 3.0
    takes[2, ..., 1] = 4.0
    assert point_diversity(takes) == pytest.approx((3 + 4 + 5) / 3)
    assert point_diversity(takes[:1].repeat(2, 0)) == 0
    takes[2, 5:] = np.nan
    assert point_diversity(takes) == pytest.approx((3 + 4 + 5) / 3)
    assert np.isnan(point_diversity(np.full((2, 4, 1, 3), np.nan)))


def test_diversity_of_heads_is_an_angle():
    takes = np.stack([nodding(0.0), nodding(0.0), nodding(0.0)])
    takes[1, :, 1] = np.deg2rad(10)
    takes[2, :, 1] = np.deg2rad(-20)
    takes[2, :7] = np.nan
    assert turn_diversity(takes) == pytest.approx((10 + 20 + 30) / 3)
