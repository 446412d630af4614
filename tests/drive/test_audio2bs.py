import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from magictalk.audio import tts
from magictalk.drive.audio2bs import LIPS, Audio2BS, Audio2BSDrive, RestGate, activate
from magictalk.face.rig import Rig, inner_lip_gap, mouth_width
from magictalk.metrics.functional.lips import closed_share
from magictalk.motion import GROUPS, Motion
from magictalk.speech import Speech


@pytest.fixture(scope="module")
def drive() -> Audio2BSDrive:
    return Audio2BSDrive.load()


@pytest.fixture(scope="module")
def spoken() -> tuple[np.ndarray, tuple[tts.Phoneme, ...]]:
    from scipy.signal import resample_poly

    said = tts.synthesize("A happy puppy jumped over the big lamp. My mother put a bowl of soup beside the bed.", "en")
    return resample_poly(said.samples, 320, 441).astype(np.float32), said.phonemes


def _run(drive: Audio2BSDrive, samples: np.ndarray, cuts: list[int] | None = None) -> Motion:
    return Motion.concatenate(list(drive.stream(iter(np.split(samples, sorted(cuts or []))))))


@settings(deadline=None, max_examples=12)
@given(st.lists(st.integers(0, 90_000), max_size=25))
def test_pieces_of_any_size_give_the_same_motion(drive, spoken, cuts) -> None:  # type: ignore[no-untyped-def]
    whole = _run(drive, spoken[0])
    assert np.allclose(_run(drive, spoken[0], cuts).coefficients, whole.coefficients, atol=1e-4)


@pytest.mark.parametrize("n", [400, 640, 15999, 16000, 16320, 16321, 31999, 32000, 32001, 70000])
def test_sound_decides_the_length(drive: Audio2BSDrive, n: int) -> None:
    parts = list(drive.stream(iter([np.random.default_rng(n).normal(0, 0.1, n).astype(np.float32)])))
    assert sum(map(len, parts)) == round(n / 16000 * 25)
    assert all(0 < len(p) <= 50 for p in parts)


def test_speech_in_motion_out(drive: Audio2BSDrive) -> None:
    speech = Speech.say("Good morning, Bob.")
    motion = Motion.concatenate(list(drive(speech)))
    assert len(motion) == round(sum(map(len, speech.chunks())) / 640)
    others = [i for i in range(52) if i not in GROUPS["lips"]]
    assert not motion.coefficients[:, others].any() and not motion.head.any()
    assert motion.coefficients.min() >= 0 and motion.coefficients.max() <= 1


def test_bilabials_close_the_lips_and_vowels_open_them(drive, spoken) -> None:  # type: ignore[no-untyped-def]
    samples, phonemes = spoken
    face = Rig.load().vertices(_run(drive, samples).coefficients)
    gap, width = inner_lip_gap(face), mouth_width(face)
    shut = [(p.start, p.end) for p in phonemes if p.symbol.strip("ˈˌ")[:1] in tuple("pbm")]
    assert closed_share(gap, width, shut).mean() >= 0.8
    assert gap.max() > 0.12 * width.mean()


def test_the_mouth_follows_the_sound_in_time(drive, spoken) -> None:  # type: ignore[no-untyped-def]
    late = np.concatenate([np.zeros(8000, np.float32), spoken[0]])
    jaw = [_run(drive, x).coefficients[:, 17] for x in (spoken[0], late)]
    lags = [np.corrcoef(jaw[0][: len(jaw[0]) - 20], jaw[1][lag : lag + len(jaw[0]) - 20])[0, 1] for lag in range(20)]
    assert int(np.argmax(lags)) in (12, 13)


@pytest.mark.parametrize("noise_db", [-200.0, -70.0, -45.0])
def test_silence_and_steady_noise_leave_the_mouth_shut(drive: Audio2BSDrive, noise_db: float) -> None:
    samples = (10 ** (noise_db / 20) * np.random.default_rng(0).normal(size=16000 * 5)).astype(np.float32)
    face = Rig.load().vertices(_run(drive, samples).coefficients)
    ratio = (inner_lip_gap(face) / mouth_width(face))[50:]
    assert ratio.std() < 0.01 and ratio.mean() < 0.08


def test_a_pause_is_still(drive, spoken) -> None:  # type: ignore[no-untyped-def]
    samples = np.concatenate([spoken[0], np.zeros(16000, np.float32), spoken[0]])
    start = len(spoken[0]) // 640
    face = Rig.load().vertices(_run(drive, samples).coefficients)
    ratio = (inner_lip_gap(face) / mouth_width(face))[start + 5 : start + 20]
    assert ratio.std() < 0.01 and ratio.max() < 0.08


def test_the_gate_ignores_loudness() -> None:
    rng = np.random.default_rng(1)
    envelope = np.repeat(rng.random(30) > 0.5, 8000).astype(np.float32)
    sound = envelope * rng.normal(0, 0.1, len(envelope)).astype(np.float32) + 1e-4 * rng.normal(size=len(envelope))
    gates = []
    for gain in (1.0, 0.25):
        gate = RestGate()
        gate.push((gain * sound).astype(np.float32))
        gates.append(gate.take(len(sound) // 640))
    assert np.abs(gates[0] - gates[1]).mean() < 0.03
    assert gates[0].min() >= 0 and gates[0].max() <= 1 + 1e-6


def test_members_are_averaged() -> None:
    network = Audio2BS(hidden=8, layers=1, members=2).eval()
    x = torch.randn(2, 40, 80)
    with torch.inference_mode():
        both = network(x)
        assert both.shape == (2, 10, len(LIPS))
        assert torch.allclose(both, activate((network.nets[0](x)[0] + network.nets[1](x)[0]) / 2), atol=1e-6)


def test_contrast_spreads_about_the_centre() -> None:
    plain = Audio2BS(hidden=8, layers=1).eval()
    strong = Audio2BS(hidden=8, layers=1, contrast=1.5).eval()
    strong.load_state_dict(plain.state_dict())
    x = torch.randn(1, 400, 80)
    with torch.inference_mode():
        middle = plain.nets[0](x)[0].mean((0, 1))
        plain.centre, strong.centre = middle, middle
        ratio = strong(x).std((0, 1)) / plain(x).std((0, 1))
    assert (ratio > 1.1).all() and (ratio < 2.2).all()
