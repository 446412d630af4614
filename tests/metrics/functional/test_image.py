"""PSNR and SSIM against closed forms."""

import numpy as np
import pytest

from magictalk.metrics.functional.image import psnr, ssim


def test_psnr_of_a_constant_error(astronaut):
    dark = (astronaut // 2).astype(np.uint8)
    assert psnr(dark + 10, dark) == pytest.approx(20 * np.log10(255 / 10))
    assert psnr(dark, dark) == float("inf")


def test_region_alone_counts(astronaut):
    spoilt = astronaut.copy()
    spoilt[:100] = 0
    region = np.zeros(astronaut.shape[:2], bool)
    region[200:] = True
    assert psnr(spoilt, astronaut, region) == float("inf")
    assert ssim(spoilt, astronaut, region) == pytest.approx(1)
    assert ssim(spoilt, astronaut) < 0.9


def test_ssim_of_flat_images_is_the_luminance_term():
    a, b = np.full((40, 40, 3), 100, np.uint8), np.full((40, 40, 3), 150, np.uint8)
    c1 = (0.01 * 255) ** 2
    assert ssim(a, b) == pytest.approx((2 * 100 * 150 + c1) / (100**2 + 150**2 + c1), rel=1e-6)
