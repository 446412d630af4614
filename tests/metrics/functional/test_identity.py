"""Likeness and its drift, on series made to drift by a known amount."""

import numpy as np
import pytest
from scipy.spatial.distance import cosine as scipy_cosine

from magictalk.metrics.functional.identity import cosine, curve, drift


def test_cosine_agrees_with_scipy():
    rng = np.random.default_rng(0)
    embeddings, reference = rng.normal(size=(5, 128)), rng.normal(size=128)
    expected = [1 - scipy_cosine(row, reference) for row in embeddings]
    assert cosine(embeddings, reference) == pytest.approx(expected)
    assert cosine(embeddings, embeddings) == pytest.approx(np.ones(5))
    embeddings[2] = np.nan
    assert np.isnan(cosine(embeddings, reference)).tolist() == [False, False, True, False, False]


def test_drift_is_the_slope_a_minute():
    minutes = np.arange(500) / 25 / 60
    falling = 0.9 - 0.3 * minutes
    falling[::7] = np.nan
    assert drift(falling, 25) == pytest.approx(-0.3)
    assert drift(falling, 50) == pytest.approx(-0.6)
    assert drift(np.full(100, 0.8)) == pytest.approx(0, abs=1e-12)
    assert np.isnan(drift([0.5, np.nan]))


def test_curve_averages_windows():
    series = np.repeat([0.9, np.nan, 0.5], [25, 25, 10])
    middles, means = curve(series)
    assert middles == pytest.approx([12 / 25, 37 / 25, 54.5 / 25])
    assert means == pytest.approx([0.9, np.nan, 0.5], nan_ok=True)
