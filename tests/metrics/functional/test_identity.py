"""Likeness and its drift, on series made to drift by a known amount."""

import numpy as np
import pytest
from scipy.spatial.distance import cosine as scipy_cosine

from magictalk.metrics.functional.identity import cosine, drift


def test_cosine_agrees_with_scipy():
    rng = np.random.default_rng(0)
    embeddings, reference = rng.normal(size=(5, 128)), rng.normal(size=128)
    expected = [1 - scipy_cosine(row, reference) for row in embeddings]
    assert cosine(embeddings, reference) == pytest.approx(expected)
    assert cosine(embeddings, embeddings) == pytest.approx(np.ones(5))
    embeddings[2] = np.nan
    assert np.isnan(cosine(embeddings, reference)).tolist() == [False, False, True, False, False]


def test_drift_is_the_slope_a_minute():
    minutes = np.arange(600) / 25 / 60
    falling = 0.9 - 0.3 * minutes
    falling[::7] = np.nan
    assert drift(falling, 25) == pytest.approx(-0.3)
    assert drift(falling, 50) == pytest.approx(-0.6)
    assert drift(np.full(250, 0.8)) == pytest.approx(0, abs=1e-12)
    assert np.isnan(drift(np.full(240, 0.8)))  # under ten seconds
    assert np.isnan(drift([0.5, np.nan])) and np.isnan(drift([np.nan]))
