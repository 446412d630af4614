"""Fréchet distances against torchmetrics', and what FID and FVD ask of their networks."""

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from magictalk.metrics.frechet import EFID, FID, FVD, FrechetDistance


class Means(nn.Module):
    """Eight features of a picture: means of strips."""

    num_features = 8

    def forward(self, x):
        return nn.functional.adaptive_avg_pool2d(x.double().mean(1, keepdim=True), (2, 4)).flatten(1)


def test_agrees_with_torchmetrics():
    rng = torch.Generator().manual_seed(0)
    real = torch.rand(40, 3, 32, 32, generator=rng)
    generated = torch.rand(30, 3, 32, 32, generator=rng) ** 2
    theirs = FrechetInceptionDistance(feature=Means(), normalize=False, input_img_size=(3, 32, 32)).set_dtype(
        torch.float64
    )
    theirs.update(real, real=True)
    theirs.update(generated, real=False)
    ours = FrechetDistance(8)
    ours.update(Means()(real), real=True)
    ours.update(Means()(generated), real=False)
    assert float(ours.compute()) == pytest.approx(float(theirs.compute()), rel=1e-5)


def test_rows_without_a_face_are_left_out():
    rng = np.random.default_rng(0)
    real, generated = rng.uniform(size=(2, 80, 52))
    clean, holed = EFID(), EFID()
    for figure, rows in ((clean, generated), (holed, np.insert(generated, [3, 9], np.nan, axis=0))):
        figure.update(real, real=True)
        figure.update(rows, real=False)
    assert float(holed.compute()) == pytest.approx(float(clean.compute()))
    assert clean.figure == "E-FID (ARKit)"


def test_one_row_is_no_distribution():
    figure = EFID()
    figure.update(np.zeros((5, 52)), real=True)
    figure.update(np.zeros((1, 52)), real=False)
    assert np.isnan(float(figure.compute()))


def test_fid_takes_the_networks_features_of_all_frames(weights, pictures):
    frames, spoilt = pictures
    fid = FID(weights)
    network = torch.jit.load(weights / "inception" / "inception.pt")
    x = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    assert fid.features(frames) == pytest.approx(network(x, return_features=True).detach().numpy(), rel=1e-4, abs=1e-3)
    plain = FrechetDistance(2048)
    for figure, a, b in ((fid, frames, spoilt), (plain, fid.features(frames), fid.features(spoilt))):
        figure.update(a, real=True)
        figure.update(b, real=False)
    assert torch.equal(fid.products, plain.products) and torch.equal(fid.sum, plain.sum)


def test_fvd_sees_clips_of_sixteen_frames(weights, pictures):
    frames = np.concatenate([*pictures, *pictures, *pictures])  # 36
    fvd = FVD(weights)
    features = fvd.features(frames)
    assert features.shape == (2, 400)
    network = torch.jit.load(weights / "i3d" / "i3d.pt")
    clip = torch.from_numpy(frames[16:32]).permute(3, 0, 1, 2).float()[None]
    expected = network(clip, rescale=True, resize=True, return_features=True)[0].detach().numpy()
    assert features[1] == pytest.approx(expected, rel=1e-4, abs=1e-3)
    assert fvd.features(frames[:15]).shape == (0, 400)


def test_fvd_of_a_set_against_itself_is_nothing(weights, pictures):
    fvd = FVD(weights)
    frames = np.concatenate([*pictures, *pictures, *pictures])
    fvd.update(frames, real=True)
    fvd.update(frames, real=False)
    assert float(fvd.compute()) == pytest.approx(0, abs=1e-4)
