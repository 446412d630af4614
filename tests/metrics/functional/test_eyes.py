"""Blinks of known times, and the aperture of eyes drawn by hand."""

import numpy as np
import pytest

from magictalk.metrics.functional.eyes import aperture, blinks
from magictalk.metrics.functional.landmarks import IBUG_68


def test_aperture_of_a_drawn_eye():
    points = np.zeros((1, 478, 3))
    eye = np.array([[0, 0], [10, 4], [20, 6], [30, 0], [20, -6], [10, -4]])
    for corners in (IBUG_68[36:42], IBUG_68[42:48]):
        points[0, list(corners), :2] = eye
    assert aperture(points) == pytest.approx([(8 + 12) / 2 / 30])


def dips(starts, length, frames=250, depth=0.05):
    series = np.full(frames, 0.3)
    for start in starts:
        series[start : start + length] = depth
    return series


@pytest.mark.parametrize("fps", [25.0, 50.0])
def test_blinks_are_found_where_they_are(fps):
    found = blinks(dips([20, 100, 180], 4), fps)
    # the lids are half-way (0.175) in the middle between two frames
    assert [b.start_s * fps for b in found] == pytest.approx([19.5, 99.5, 179.5])
    assert [b.duration_s * fps for b in found] == pytest.approx([4.0] * 3)


@pytest.mark.parametrize("depth", [0.0, 0.1, 0.18])
def test_a_blink_lasts_as_long_however_far_the_lids_are_seen_to_come(depth):
    shape = np.array([0.35, 0.85, 1.0, 0.8, 0.5, 0.25, 0.08])
    series = np.full(100, 0.3)
    series[40:47] -= (0.3 - depth) * shape
    (found,) = blinks(series)
    assert found.duration_s == pytest.approx((44 - 40.3) / 25) and found.start_s == pytest.approx(40.3 / 25)


def test_eyes_that_were_wide_before_and_narrow_after():
    series = np.interp(np.arange(100), [0, 40, 60, 99], [0.4, 0.4, 0.25, 0.25])
    series[50:53] = 0.05
    assert len(blinks(series)) == 1 and blinks(series)[0].duration_s == pytest.approx(3 / 25, abs=0.02)


def test_unit_and_offset_of_the_open_eye_do_not_matter():
    assert blinks(7 * dips([20], 4)) == pytest.approx(blinks(dips([20], 4)))


def test_what_is_no_blink():
    assert blinks(dips([50], 20)) == []  # eyes shut for 0.8 s
    assert blinks(dips([50], 4, depth=0.2)) == []  # a squint
    assert blinks(dips([0, 247], 4)) == []  # begins before, ends after
    assert blinks(np.full(50, np.nan)) == []
    lost = dips([50, 90], 4)
    lost[52] = np.nan
    assert [round(b.start_s * 25) for b in blinks(lost)] == [90]


def test_blinks_of_the_idle_drive_are_counted():
    from magictalk.motion import ARKIT

    coefficients = np.zeros((200, len(ARKIT)))
    eyelids = [ARKIT.index("eyeBlinkLeft"), ARKIT.index("eyeBlinkRight")]
    for start in (30, 90):
        coefficients[start : start + 5, eyelids] = np.array([0.4, 0.9, 1.0, 0.8, 0.3])[:, None]
    found = blinks(1 - coefficients[:, eyelids].mean(1))
    assert len(found) == 2 and all(0.1 < b.duration_s < 0.2 for b in found)
