"""PSNR and SSIM against closed forms and torchmetrics."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from magictalk.errors import OptionError
from magictalk.metrics.functional.image import psnr, ssim


def test_psnr_of_a_constant_error(astronaut):
    dark = (astronaut // 2).astype(np.uint8)
    assert psnr(dark + 10, dark) == pytest.approx(20 * np.log10(255 / 10))
    assert psnr(dark, dark) == float("inf")


def test_agree_with_torchmetrics(astronaut):
    a = astronaut[40:140, 160:280]
    b = np.clip(a + np.random.default_rng(0).normal(0, 20, a.shape), 0, 255).astype(np.uint8)
    x, y = (torch.from_numpy(i).permute(2, 0, 1)[None].double() for i in (a, b))
    assert psnr(a, b) == pytest.approx(float(peak_signal_noise_ratio(x, y, data_range=255.0)), rel=1e-5)
    assert ssim(a, b) == pytest.approx(float(structural_similarity_index_measure(x, y, data_range=255.0)), abs=1e-5)


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


@pytest.mark.parametrize("shape", [(10, 40, 3), (40, 41, 3)])
def test_ssim_wants_two_alike_that_hold_its_window(shape):
    with pytest.raises(OptionError, match="two alike"):
        ssim(np.zeros(shape, np.uint8), np.zeros((shape[0], 40, 3) if shape[1] > 40 else shape, np.uint8))
