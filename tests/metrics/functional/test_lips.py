import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from magictalk.errors import OptionError
from magictalk.metrics.functional.lips import bootstrap, closed_share, delay, find_offset, pearson, silences, stillness


@given(arrays(np.float64, 20, elements=st.floats(-5, 5)), st.integers(0, 99))
def test_pearson_agrees_with_scipy(a: np.ndarray, seed: int) -> None:
    b = np.random.default_rng(seed).normal(size=20)
    where = np.arange(20) % 3 > 0
    if a[where].std() > 1e-3:
        assert pearson(a, b, where) == pytest.approx(stats.pearsonr(a[where], b[where])[0], abs=1e-9)


def test_pearson_of_nothing() -> None:
    assert np.isnan(pearson(np.ones(5), np.arange(5)))
    assert np.isnan(pearson(np.arange(5), np.arange(5), np.zeros(5, bool)))
    with pytest.raises(OptionError):
        pearson(np.arange(4), np.arange(5))


def test_bootstrap_agrees_with_the_normal_interval() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    interval = bootstrap([*values, np.nan])
    half = 1.96 * values.std() / 20
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.03)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.03)
    assert np.isnan(bootstrap([]).mean)


def test_delay_moves_a_series_later() -> None:
    x = np.arange(10.0) ** 2
    assert np.array_equal(delay(x, 0.08)[2:], x[:-2])
    assert np.array_equal(delay(x, -0.04)[:-1], x[1:])
    assert delay(x, 0.02)[5] == pytest.approx((x[4] + x[5]) / 2)


def test_an_offset_is_found() -> None:
    rng = np.random.default_rng(0)
    made = np.stack([np.convolve(rng.normal(size=250), np.hanning(9), "same") for _ in range(3)], 1)
    where = np.ones(250, bool)
    late = np.roll(made, 3, 0)  # the mouth comes 120 ms late: at t it matches the sound at t - 0.12
    offset, r = find_offset(made, late, where)
    assert offset == pytest.approx(-0.12, abs=0.02) and r > 0.9
    assert find_offset(made, made, where)[0] == 0
    assert find_offset(made, rng.normal(size=(250, 3)), where)[1] < 0.25
    assert find_offset(made, np.ones((250, 3)), where)[0] == 0


def test_silences_are_found_at_any_gain() -> None:
    rng = np.random.default_rng(0)
    x = 0.1 * rng.normal(size=48000)
    x[16000:24000] *= 1e-4
    x[30000:32000] = 0  # 125 ms: too short
    for gain in (1.0, 0.01):
        assert silences(gain * x, 16000) == [(1.0, 1.5)]
    assert silences(np.zeros(0), 16000) == []
    assert silences(np.zeros(16000), 16000) == [(0.0, 1.0)]


def test_closures_count_within_the_slack() -> None:
    gap = np.full(100, 0.3)
    gap[20] = 0.02  # 0.80 s
    width = np.ones(100)
    spans = [(0.78, 0.82), (0.86, 0.90), (0.87, 0.90), (0.70, 0.74), (2.0, 2.1)]
    assert closed_share(gap, width, spans).tolist() == [1, 1, 0, 1, 0]


def test_stillness_is_of_the_worst_silence() -> None:
    gap = np.zeros(100)
    gap[50:75] = np.tile([0.0, 0.02], 13)[:25]
    result = stillness(gap, np.full(100, 2.0), [(0.0, 1.0), (2.0, 3.0), (3.5, 3.6)])
    assert result.count == 2
    assert result.std == pytest.approx(0.005, rel=0.02)
    assert result.mean == pytest.approx(0.005, rel=0.1)


def test_frames_without_a_face_say_nothing() -> None:
    gap = np.tile([0.0, 0.02], 50)
    gap[30:35] = np.nan
    spans = [(0.0, 1.0), (1.0, 2.0)]
    known = stillness(gap, np.ones(100), spans)
    assert known == stillness(gap, np.ones(100), spans[::-1])
    assert known.std == pytest.approx(0.01, rel=0.05)
    gap[20:60] = np.nan
    shares = closed_share(gap, np.ones(100), [(0.2, 0.3), (1.0, 1.1)])
    assert shares[0] == 1 and np.isnan(shares[1])
