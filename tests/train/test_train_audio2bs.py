from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from magictalk.audio.tts import Phoneme
from magictalk.data.voices import VISEMES, occupancy, utterances, visemes_of
from magictalk.drive.audio2bs import LIPS
from magictalk.face.rig import Rig
from magictalk.train import audio2bs, crops
from magictalk.train.lips import POINTS, Example, LipLoss, measure, normalise, scale_of


def _example(rig: Rig, seed: int, frames: int = 150, amplitude: float = 1.0, split: str = "train") -> Example:
    """A person whose jaw opens with the loudness of the sound."""
    rng = np.random.default_rng(seed)
    jaw = np.repeat(rng.random(frames // 5 + 1) > 0.5, 5)[:frames].astype(np.float32)
    samples = (0.1 * np.repeat(jaw, 640) * rng.normal(size=frames * 640)).astype(np.float32)
    coefficients = np.zeros((frames, 52), np.float32)
    coefficients[:, 17] = 0.4 * amplitude * np.convolve(jaw, np.hanning(7) / np.hanning(7).sum(), "same")
    mesh = rig.vertices(coefficients).astype(np.float64)
    points = (mesh - rig.neutral)[:, list(POINTS)].astype(np.float32)
    return Example(
        f"{seed}.mp4", "people", split, samples, np.ones(frames, bool), measure(mesh), points,
        coefficients[:, list(LIPS)], measure(rig.neutral.astype(np.float64)), 0.0, np.zeros((0, 0), np.float32),
    )  # fmt: skip


@pytest.fixture(scope="module")
def rig() -> Rig:
    return Rig.load()


def test_phonemes_become_visemes() -> None:
    assert visemes_of("ˈm") == ("close",)
    assert visemes_of("_") == ("rest",)
    assert visemes_of("tʃ") == ("alveolar", "hush")
    assert visemes_of("ˈɑː") == ("a",)
    assert visemes_of("œ̃") == ("y",)


def test_occupancy_is_centred_on_the_frame() -> None:
    shares = occupancy([Phoneme("m", 0.0, 0.10), Phoneme("a", 0.10, 0.20)], 6)
    assert np.allclose(shares.sum(1), 1)
    close, a = VISEMES.index("close"), VISEMES.index("a")
    # frame 2 is at 80 ms and hears 60 to 100 ms; frame 3 hears 100 to 140 ms
    assert shares[2, close] == 1 and shares[3, a] == 1
    assert shares[0, 0] == pytest.approx(0.5)  # half of frame 0 lies before the sound


def test_word_salads_are_seeded_and_known() -> None:
    one, two = list(utterances(2, 3)), list(utterances(2, 3))
    for x, y in zip(one, two, strict=True):
        assert np.array_equal(x.samples, y.samples)
        assert len(x.visemes) == round(len(x.samples) / 640)
        assert np.allclose(x.visemes.sum(1), 1, atol=1e-5)


def test_style_is_taken_out_and_closed_stays_closed(rig: Rig) -> None:
    examples = [_example(rig, 1), replace(_example(rig, 1), name="wide")]
    wide = _example(rig, 1, amplitude=2.0)
    examples[1] = wide
    scale = scale_of(examples, np.array([0.5, 0.5]))
    a, b = (normalise(e, scale, examples[0].rest) for e in examples)
    before = np.abs(examples[0].geometry - wide.geometry).mean()
    assert np.abs(a[:, :3] - b[:, :3]).mean() < 0.6 * before
    shut = examples[0].geometry[:, 0] < 1e-6
    assert shut.any() and np.abs(a[shut, 0]).max() < 1e-5


def test_the_loss_is_least_at_the_truth(rig: Rig) -> None:
    example = _example(rig, 2)
    scale = scale_of([example], np.ones(1))
    loss = LipLoss(rig, scale)
    truth = torch.from_numpy(example.coefficients)[None]
    targets = torch.from_numpy(normalise(example, scale, example.rest))[None]
    seen = torch.ones(1, 150, dtype=torch.bool)
    best = loss.real(truth, targets, seen)
    for other in (0.5 * truth, truth + 0.05, truth.roll(4, 1), torch.zeros_like(truth)):
        assert loss.real(other, targets, seen) > best + 0.05


def test_bilabials_must_close(rig: Rig) -> None:
    example = _example(rig, 2)
    loss = LipLoss(rig, scale_of([example], np.ones(1)))
    visemes = torch.zeros(1, 9, len(VISEMES))
    visemes[:, :3, VISEMES.index("a")] = 1
    visemes[:, 3:6, VISEMES.index("close")] = 1
    visemes[:, 6:, VISEMES.index("a")] = 1
    jaw = torch.zeros(1, 9, len(LIPS))
    jaw[..., LIPS.index(17)] = 0.35
    closing = jaw.clone()
    closing[:, 3:6] = 0
    assert loss.spoken(closing, visemes) < 0.6 * loss.spoken(jaw, visemes)


def test_crops_keep_sound_and_lips_together(rig: Rig) -> None:
    examples = [_example(rig, i, frames=200) for i in range(3)]
    scale = scale_of(examples, np.full(3, 1 / 3))
    for e in examples:
        e.targets = normalise(e, scale, e.rest)
    x, y, seen = crops.RealCrops(examples, np.full(3, 1 / 3), np.random.default_rng(0))(8)
    assert x.shape == (8, 448, 80) and y.shape[:2] == seen.shape == (8, 112)
    loud = x.mean(2).reshape(8, 112, 4).mean(2)
    r = [np.corrcoef(loud[i], y[i, :, 0])[0, 1] for i in range(8)]
    assert np.mean(r) > 0.5


def test_a_small_net_learns_the_whole_recipe(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crops, "FRAMES", 50)
    lines: list[str] = []
    settings = audio2bs.Settings(
        hidden=16, layers=1, dropout=0.0, members=2, pretrain_steps=2, steps=20, rate=1.5e-2, batch=3, spoken_batch=1
    )
    examples = [_example(rig, i) for i in range(4)] + [_example(rig, 9, split="val")]
    torch.set_num_threads(2)
    network = audio2bs.train(settings, examples, list(utterances(4, 0)), rig, tmp_path, lines.append)
    loss = LipLoss(rig, scale_of(examples, balance := audio2bs.shares_of(examples)))
    scores = audio2bs.correlations(audio2bs.predict(network, loss, examples[-1]), examples[-1], 0.0)
    assert balance.sum() == pytest.approx(1)
    assert scores[0] > 0.5
    assert any("val" in line for line in lines)
    assert {p.name for p in tmp_path.iterdir()} == {"phonemes", "first", "offsets.json", "member-0", "member-1"}
    again = audio2bs.train(settings, examples, [], rig, tmp_path, lines.append)  # all of it is kept
    assert torch.equal(again.nets[1].lips.weight, network.nets[1].lips.weight)


def test_two_linear_layers_fold_into_one() -> None:
    head = torch.nn.Sequential(torch.nn.Linear(6, 3), torch.nn.Linear(3, 5))
    x = torch.randn(4, 6)
    assert torch.allclose(head(x), audio2bs.fold_head(head)(x), atol=1e-6)
