"""The Fréchet distance against its closed forms and SciPy's matrix root."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from magictalk.errors import OptionError
from magictalk.metrics.functional.frechet import frechet_distance, moments


def test_of_independent_dimensions_adds_up():
    rng = np.random.default_rng(0)
    m1, m2 = rng.normal(size=(2, 6))
    s1, s2 = rng.uniform(0.1, 3, (2, 6))
    expected = ((m1 - m2) ** 2 + (s1 - s2) ** 2).sum()
    assert frechet_distance(m1, np.diag(s1**2), m2, np.diag(s2**2)) == pytest.approx(expected)


@given(st.integers(0, 999), st.integers(2, 12), st.integers(2, 30), st.integers(2, 30))
@settings(max_examples=25, deadline=None)
def test_agrees_with_scipy_and_is_symmetric(seed, size, n, m):
    rng = np.random.default_rng(seed)
    a = moments(rng.normal(size=(n, size)) @ rng.normal(size=(size, size)))
    b = moments(rng.normal(1, 2, size=(m, size)))
    value = frechet_distance(*a, *b)
    assert value == pytest.approx(frechet_distance(*b, *a), rel=1e-4, abs=1e-5)
    assert frechet_distance(*a, *a) == pytest.approx(0, abs=1e-5)
    if n > size and m > size:  # SciPy's root of a singular matrix is not to be trusted
        root = sqrtm(a[1] @ b[1]).real
        expected = ((a[0] - b[0]) ** 2).sum() + np.trace(a[1] + b[1] - 2 * root)
        assert value == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_one_row_has_no_spread():
    with pytest.raises(OptionError, match="at least 2"):
        moments(np.ones((1, 4)))
