import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from magictalk import weights
from magictalk.drive.audio2bs import LIPS, Audio2BSDrive
from magictalk.drive.lips import AFTER, BEFORE, WINDOW, EmotionalResidue, LipDrive
from magictalk.motion import ARKIT, GROUPS, Motion
from magictalk.speech import Speech
from magictalk.style import Style, expression


@pytest.fixture(scope="module")
def neutral() -> Audio2BSDrive:
    return Audio2BSDrive.load()


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    return Speech.say("Bob put a big umbrella by the door. Maybe he will be back for it before long.", "en").samples()


@pytest.fixture(scope="module")
def reference() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 0.2, (8, 52)).astype(np.float32)


def _random(seed: int = 0) -> EmotionalResidue:
    torch.manual_seed(seed)
    network = EmotionalResidue(hidden=16, emotion=8).eval()
    torch.nn.init.normal_(network.residue[-1].weight, 0, 0.1)
    return network


def _run(drive: LipDrive, samples: np.ndarray, cuts: tuple[int, ...] = ()) -> Motion:
    return Motion.concatenate(list(drive.stream(iter(np.split(samples, sorted(cuts))))))


def test_before_training_the_lips_are_those_of_audio2bs(neutral, voice, reference) -> None:  # type: ignore[no-untyped-def]
    plain = Motion.concatenate(list(neutral.stream(iter([voice]))))
    drive = LipDrive(neutral, EmotionalResidue(hidden=16), Style.neutral(), reference)
    assert np.allclose(_run(drive, voice).coefficients, plain.coefficients, atol=1e-6)


def test_every_frame_sees_its_own_eight(reference: np.ndarray) -> None:
    network, frames = _random(), 11
    lips, mel = torch.rand(1, frames + WINDOW - 1, len(LIPS)), torch.randn(1, 4 * (frames + WINDOW - 1), 80)
    emotion = torch.rand(1, frames, 8, 52)
    with torch.inference_mode():
        whole = network(lips, mel, emotion)
        for t in range(frames):
            alone = network(lips[:, t : t + WINDOW], mel[:, 4 * t : 4 * (t + WINDOW)], emotion[:, t : t + 1])
            assert torch.allclose(alone[:, 0], whole[:, t], atol=1e-6)
        assert torch.allclose(sum(network.parts(lips, mel, emotion)), whole)
    assert whole.std() > 0


def test_of_the_jaw_both_networks_have_a_say() -> None:
    network, jaw = _random(), LIPS.index(ARKIT.index("jawOpen"))
    torch.nn.init.normal_(network.shown.weight, 0, 0.1)
    lips, mel, emotion = torch.rand(1, 20, len(LIPS)), torch.randn(1, 80, 80), torch.rand(1, 13, 8, 52)
    with torch.inference_mode():
        shown, heard = network.parts(lips, mel, emotion)
        refined = network.refine(lips, mel, emotion)
    now, rest = lips[:, BEFORE:-AFTER], [i for i in range(len(LIPS)) if i != jaw]
    assert torch.allclose(refined[..., rest], (now + shown + heard)[..., rest].clamp(0, 1))
    halfway = (now + shown + (now + shown + heard)) / 2
    assert torch.allclose(refined[..., jaw], halfway[..., jaw].clamp(0, 1), atol=1e-6)


@settings(deadline=None, max_examples=10)
@given(st.lists(st.integers(0, 60_000), max_size=12))
def test_pieces_of_any_size_give_the_same_lips(neutral, voice, reference, cuts) -> None:  # type: ignore[no-untyped-def]
    drive = LipDrive(neutral, _random(), Style.timeline("0s neutral, 1s happy"), reference)
    assert np.allclose(_run(drive, voice, tuple(cuts)).coefficients, _run(drive, voice).coefficients, atol=1e-4)


@pytest.mark.parametrize("n", [400, 640, 2000, 31_999, 32_000, 33_000, 34_240, 64_100, 70_000])
def test_sound_decides_the_length(neutral, reference, n: int) -> None:  # type: ignore[no-untyped-def]
    samples = np.random.default_rng(n).normal(0, 0.1, n).astype(np.float32)
    motion = _run(LipDrive(neutral, _random(), Style.neutral(), reference), samples)
    assert len(motion) == round(n / 640)
    rest = [i for i in range(52) if i not in GROUPS["lips"]]
    assert not motion.coefficients[:, rest].any() and not motion.head.any()


def test_in_silence_the_mouth_is_the_emotions(neutral, reference) -> None:  # type: ignore[no-untyped-def]
    silence = np.zeros(32_000, np.float32)
    network = weights.load(EmotionalResidue, "lips")
    jaw, smile = ARKIT.index("jawOpen"), ARKIT.index("mouthSmileLeft")
    quiet, amazed, glad = (
        _run(LipDrive(neutral, network, style, reference), silence).coefficients[25:]
        for style in (Style.neutral(), Style.emotion("surprised"), Style.emotion("happy"))
    )
    assert quiet[:, jaw].max() == 0
    assert np.allclose(amazed[:, jaw], 0.5 * expression("surprised")[jaw], atol=1e-3)
    assert glad[:, smile].min() > 0.5


def test_a_smile_shows_in_speech_and_the_lips_still_close(neutral, voice) -> None:  # type: ignore[no-untyped-def]
    from magictalk.drive.emodiff import EmoDiffDrive
    from magictalk.face.rig import Rig, inner_lip_gap

    rig = Rig.load()
    plain, glad = (
        _run(EmoDiffDrive.load(style).lips, voice).coefficients for style in (Style.neutral(), Style.emotion("happy"))
    )
    smile = [ARKIT.index("mouthSmileLeft"), ARKIT.index("mouthSmileRight")]
    assert glad[:, smile].mean() > plain[:, smile].mean() + 0.3
    gaps = [inner_lip_gap(rig.vertices(c)) for c in (plain, glad)]
    shut = gaps[0] < np.quantile(gaps[0], 0.15)
    assert gaps[1][shut].mean() < gaps[0].mean()
    assert np.corrcoef(gaps)[0, 1] > 0.8
