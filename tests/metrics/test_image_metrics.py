"""PSNR, SSIM and LPIPS of frames against torchmetrics and the network called by hand."""

import numpy as np
import pytest
import torch
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

from magictalk.metrics.image import LPIPS, PSNR, SSIM


def tensors(frames):
    return torch.from_numpy(frames).permute(0, 3, 1, 2).double()


def test_agree_with_torchmetrics(pictures):
    frames, spoilt = pictures
    oracles = PeakSignalNoiseRatio(data_range=255.0), StructuralSimilarityIndexMeasure(data_range=255.0)
    for ours, theirs in zip((PSNR(), SSIM()), oracles, strict=True):
        ours.update(spoilt, frames)
        assert float(ours.compute()) == pytest.approx(float(theirs(tensors(spoilt), tensors(frames))), rel=1e-4)


def test_a_perfect_frame_does_not_hide_the_others(pictures):
    frames, spoilt = pictures
    psnr = PSNR()
    psnr.update(frames[:1], frames[:1])
    assert float(psnr.compute()) == float("inf")
    psnr.update(spoilt[1:], frames[1:])
    assert 20 < float(psnr.compute()) < 40


def test_lpips_gives_the_network_pictures_from_minus_one_to_one(weights, pictures):
    frames, spoilt = pictures
    lpips = LPIPS(weights)
    lpips.update(spoilt, frames)
    network = torch.jit.load(weights / "lpips" / "lpips.pt")
    expected = [network(tensors(spoilt[i, None]) / 127.5 - 1, tensors(frames[i, None]) / 127.5 - 1) for i in range(6)]
    assert float(lpips.compute()) == pytest.approx(float(torch.cat(expected).mean()), rel=1e-5)


@pytest.mark.parametrize("kind", [PSNR, SSIM])
def test_numbers_of_frames_must_agree(kind, pictures):
    with pytest.raises(ValueError):
        kind().update(pictures[0][:0], pictures[1])


def test_nothing_seen_is_no_number():
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert np.isnan(float(SSIM().compute()))
