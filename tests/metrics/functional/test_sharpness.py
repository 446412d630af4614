"""CPBD on edges of known width, and against a pixel-by-pixel reading of the paper."""

import math
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magictalk.errors import OptionError
from magictalk.metrics.functional.sharpness import cpbd


def slow_cpbd(image):
    """One pixel at a time: Sobel, thinning, extrema, blocks, histogram of percents as the authors sum it."""
    image = np.asarray(image, np.float64)
    h, w = image.shape
    padded = np.pad(image, 1, mode="edge")
    strength = np.zeros((h, w))
    for r in range(h):
        for c in range(w):
            right, left = padded[r : r + 3, c + 2], padded[r : r + 3, c]
            strength[r, c] = ((right - left) @ [1, 2, 1] / 8) ** 2
    cutoff = 4 * strength.mean()
    histogram = np.zeros(101)
    for top in range(0, h - 63, 64):
        for side in range(0, w - 63, 64):
            block = image[top : top + 64, side : side + 64]
            jnb = 5 if round(block.max() - block.min()) <= 50 else 3
            edges, widths = 0, []
            for r in range(top, top + 64):
                for c in range(max(side, 1), min(side + 64, w - 1)):
                    s = strength[r, c]
                    if not (s > cutoff and s > strength[r, c - 1] and s >= strength[r, c + 1]):
                        continue
                    edges += 1
                    up, down = max(r - 1, 0), min(r + 1, h - 1)
                    gy = (image[down, c] - image[up, c]) / (down - up)
                    gx = (image[r, c + 1] - image[r, c - 1]) / 2
                    if gx == 0 or math.degrees(math.atan(abs(gy / gx))) > 22.5:
                        continue
                    sign = 1 if gx > 0 else -1
                    right = c
                    while right + 1 < w and sign * (image[r, right + 1] - image[r, right]) > 0:
                        right += 1
                    left = c
                    while left > 0 and sign * (image[r, left] - image[r, left - 1]) > 0:
                        left -= 1
                    widths.append(right - left)
            if edges > 0.002 * 64 * 64:
                for width in filter(None, widths):
                    histogram[round(100 * (1 - math.exp(-((width / jnb) ** 3.6))))] += 1
    return histogram[:64].sum() / histogram.sum() if histogram.sum() else 0.0


@given(seed=st.integers(0, 999), height=st.integers(64, 140), width=st.integers(64, 140), sigma=st.floats(0, 2))
@settings(max_examples=8, deadline=None)
def test_agrees_with_a_slow_reading_of_the_paper(astronaut, seed, height, width, sigma):
    gray = cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY)
    top, left = np.random.default_rng(seed).integers(0, 512 - 140, 2)
    image = gray[top : top + height, left : left + width]
    if sigma > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    assert cpbd(image) == pytest.approx(slow_cpbd(image), abs=1e-9)


@pytest.mark.parametrize("contrast, noticeable", [(200, 3), (40, 5)])
@pytest.mark.parametrize("width", range(1, 9))
def test_ramps_count_up_to_the_just_noticeable_width(contrast, noticeable, width):
    ramp = np.interp(np.arange(128), [32, 32 + width], [20, 20 + contrast])
    assert cpbd(np.tile(ramp, (128, 1))) == (width <= noticeable)


def test_sinks_as_blur_rises(astronaut):
    gray = cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY)
    values = [cpbd(gray)] + [cpbd(cv2.GaussianBlur(gray, (0, 0), s)) for s in (0.6, 0.9, 1.2, 1.6)]
    assert all(a > b for a, b in pairwise(values))
    assert values[0] > 0.4 and values[-1] < 0.02


def test_a_flat_picture_has_nothing_sharp():
    assert cpbd(np.full((64, 64), 90, np.uint8)) == 0


@pytest.mark.parametrize("shape", [(63, 200), (64, 64, 3)])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises(OptionError, match="expected"):
        cpbd(np.zeros(shape))
