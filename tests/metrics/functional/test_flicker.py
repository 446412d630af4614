"""Flicker of frames whose motion and brightness are known."""

import cv2
import numpy as np
import pytest

from magictalk.metrics.functional.flicker import residual


@pytest.fixture(scope="module")
def smooth(astronaut):
    return cv2.GaussianBlur(astronaut, (0, 0), 1.5)


def moved(image, x, y):
    return cv2.warpAffine(image, np.array([[1.0, 0, x], [0, 1, y]]), image.shape[1::-1], borderMode=cv2.BORDER_REFLECT)


def test_a_still_picture_does_not_flicker(smooth):
    assert residual(smooth, smooth) == 0


@pytest.mark.parametrize("shift", [(3, 0), (-2, 4), (1.5, 2.5)])
def test_motion_is_undone(smooth, shift):
    other = moved(smooth, *shift)
    plain = np.abs(other.astype(float) - smooth).mean()
    assert residual(smooth, other) < 0.15 * plain


def test_a_change_of_brightness_is_found_beside_motion(smooth):
    dark = (smooth * 0.7).astype(np.uint8)  # no pixel near the top of the range
    assert residual(dark, dark + 6) == pytest.approx(6, abs=0.1)
    assert residual(dark, moved(dark, 2, 1) + 6) == pytest.approx(6, abs=0.8)
