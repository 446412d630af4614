from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from magictalk import sync, weights
from magictalk.errors import MotionError, WeightsError
from magictalk.face.landmarks import FaceTracker
from magictalk.face.pose import Pose
from magictalk.face.rig import Rig
from magictalk.speech import Speech
from magictalk.sync import (
    HEARD,
    LIPS,
    Sync,
    SyncExpert,
    SyncJudge,
    compare,
    cosines_by_lag,
    hear,
    hold_ends,
    mouth_crop,
    verdict,
)
from magictalk.video import read_frames


@pytest.fixture(scope="module")
def expert() -> SyncExpert:
    torch.manual_seed(0)
    return SyncExpert(ear_width=8, lips_width=8, eye_width=4, seen=6, dimensions=5).eval()


def _ridge(frames: int, lag: float, width: float = 2.0) -> np.ndarray:
    """Cosines by lag of a clip whose every mouth fits the sound ``lag`` frames later best."""
    t, lags = np.arange(frames)[:, None], np.arange(-15, 16)
    inside = (t + lags >= 0) & (t + lags < frames)
    return np.where(inside, np.exp(-0.5 * ((lags - lag) / width) ** 2), np.nan).astype(np.float32)


def test_a_frames_sound_is_centred_on_it() -> None:
    samples = np.zeros(16000, np.float32)
    samples[10 * 640 - 8 : 10 * 640 + 8] = 0.5  # a click at frame 10
    mel = hear(samples, 25)
    assert mel.shape == (4 * 25 + 16, 80)
    window = mel[4 * 10 : 4 * 10 + HEARD].mean(1)
    loud = np.flatnonzero(window > window.min() + 0.1)
    assert loud.mean() == pytest.approx(9.5, abs=0.5)


@settings(max_examples=15, deadline=None)
@given(frames=st.integers(1, 12), batch=st.integers(1, 3), seed=st.integers(0, 99))
def test_sliding_gives_what_single_windows_give(expert: SyncExpert, frames: int, batch: int, seed: int) -> None:
    torch.manual_seed(seed)
    mel, lips = torch.randn(batch, 4 * frames + 16, 80), torch.rand(batch, frames, len(LIPS))
    held = hold_ends(lips)
    whole = expert.similarity(held, mel).reshape(batch, frames)
    for t in range(frames):
        one = expert.similarity(held[:, t : t + 5], mel[:, 4 * t : 4 * t + 20])
        assert one.shape == (batch,)
        assert torch.allclose(whole[:, t], one, atol=1e-5)
        middle = torch.stack([lips[:, min(max(i, 0), frames - 1)] for i in range(t - 2, t + 3)], 1)
        assert torch.equal(held[:, t : t + 5], middle)


def test_a_loss_flows_back_into_the_coefficients(expert: SyncExpert) -> None:
    lips = torch.rand(3, 5, len(LIPS), requires_grad=True)
    torch.nn.functional.softplus(-expert(lips, torch.randn(3, 20, 80))).sum().backward()
    assert lips.grad is not None and (lips.grad.abs().sum((1, 2)) > 0).all()


@settings(max_examples=20, deadline=None)
@given(lag=st.floats(-9, 9), frames=st.integers(60, 120))
def test_the_offset_is_where_the_ridge_is(lag: float, frames: int) -> None:
    found = compare(_ridge(frames, lag))
    assert found.offset_s * 25 == pytest.approx(lag, abs=0.1)
    assert found.score == pytest.approx(1, abs=0.02)
    assert found.steady


def test_cosines_by_lag_are_those_of_the_pairs() -> None:
    rng = np.random.default_rng(0)
    mouth, sound = rng.normal(size=(2, 20, 4)).astype(np.float32)
    found = cosines_by_lag(mouth, sound, 3)
    for t in range(20):
        for lag in range(-3, 4):
            inside = 0 <= t + lag < 20
            assert np.isfinite(found[t, lag + 3]) == inside
            assert not inside or found[t, lag + 3] == pytest.approx(mouth[t] @ sound[t + lag], abs=1e-5)


def test_distance_and_confidence_by_the_definition() -> None:
    rng = np.random.default_rng(0)
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in rng.normal(size=(2, 40, 6)))
    means = []
    for lag in range(-15, 16):
        pairs = [(t, t + lag) for t in range(40) if 0 <= t + lag < 40]
        means.append(np.mean([np.linalg.norm(a[i] - b[j]) for i, j in pairs]))
    found = compare(cosines_by_lag(a.astype(np.float32), b.astype(np.float32)))
    assert found.distance == pytest.approx(min(means), abs=1e-4)
    assert found.confidence == pytest.approx(np.median(means) - min(means), abs=1e-4)
    assert found.score_at_zero == pytest.approx(np.mean((a * b).sum(1)), abs=1e-5)


def test_halves_that_disagree_are_not_steady() -> None:
    both = np.concatenate([_ridge(80, 6)[:40], _ridge(80, -2)[40:]])
    assert not compare(both).steady


def test_too_short_a_clip_is_refused() -> None:
    with pytest.raises(MotionError, match="8 frames"):
        compare(_ridge(8, 0))


def _sync(offset: float = 0.0, score: float = 0.5, confidence: float = 0.4, steady: bool = True) -> Sync:
    return Sync(offset, score, score - 0.1, 1.0, confidence, steady)


def test_verdicts() -> None:
    assert verdict(_sync())[0] == "keep"
    assert verdict(_sync(0.02))[0] == "keep"
    assert verdict(_sync(0.12))[0] == "correct"
    assert verdict(_sync(-0.12))[0] == "correct"
    assert verdict(_sync(0.12), max_offset_s=0.1)[0] == "drop"
    assert verdict(_sync(0.5))[0] == "drop"
    assert verdict(_sync(0.12, steady=False))[0] == "drop"
    assert verdict(_sync(0.03), max_offset_s=0)[0] == "keep"
    assert verdict(_sync(0.06), max_offset_s=0)[0] == "drop"
    assert verdict(_sync(score=0.02, confidence=0.02)) == ("drop", "lips do not follow the sound")
    assert verdict(_sync(0.44)) == verdict(_sync(-0.37))  # no figures of the clip's own


def test_a_mouth_crop_does_not_depend_on_the_heads_place_size_and_roll(astronaut: np.ndarray) -> None:
    tracker = FaceTracker()
    face = tracker(astronaut)
    assert face is not None
    crop = mouth_crop(astronaut, Pose.fit(face.landmarks))
    assert crop.shape == sync.CROP and crop.dtype == np.uint8
    turn = cv2.getRotationMatrix2D((220, 120), 17, 0.8)
    turned = cv2.warpAffine(astronaut, turn, (512, 512))
    landmarks = face.landmarks.copy()
    landmarks[:, :2] = landmarks[:, :2] @ turn[:, :2].T + turn[:, 2]
    landmarks[:, 2] *= 0.8
    again = mouth_crop(turned, Pose.fit(landmarks))
    assert np.corrcoef(crop.ravel(), again.ravel())[0, 1] > 0.98
    # the mouth lies in the middle: it shows the brightest teeth of the picture's face
    y, x = np.unravel_index(cv2.GaussianBlur(crop, (5, 5), 0).argmax(), crop.shape)
    assert 12 < y < 45 and 20 < x < 60


def test_frames_and_meshes_must_be_as_many(astronaut: np.ndarray) -> None:
    landmarks = np.repeat(Rig.load().neutral[None] * [60, -60, -60] + [220, 120, 0], 3, 0).astype(np.float32)
    with pytest.raises(MotionError, match="2 frames and 3 meshes"):
        sync.mouth_crops([astronaut] * 2, landmarks)
    landmarks[1] = np.nan  # a frame without a face is cropped where its neighbours lead
    assert sync.mouth_crops(iter([astronaut] * 3), landmarks).shape == (3, *sync.CROP)


def test_weights_make_the_round_trip(expert: SyncExpert, tmp_path: Path) -> None:
    expert.save_pretrained(tmp_path / "sync")
    again = SyncJudge.load(tmp_path / "sync").expert
    assert all(
        torch.equal(a, b) for a, b in zip(expert.state_dict().values(), again.state_dict().values(), strict=True)
    )
    assert not again.training
    with pytest.raises(WeightsError):
        SyncJudge.load(tmp_path / "nothing")


def test_what_ships_is_small() -> None:
    assert (weights.find("sync") / weights.WEIGHTS).stat().st_size < 4e6


Speaker = tuple[np.ndarray, np.ndarray, list[np.ndarray]]
"""Sound ``[N]``, meshes ``[T, 478, 3]``, frames."""


@pytest.fixture(scope="module")
def speakers(shared: Path) -> list[Speaker]:
    """Two people that training never saw."""
    tracker, found = FaceTracker(), []
    for name in ("open/grid__id2_vcd_swwp2s.mpg", "noncommercial/talkvid__Gender_female_4.mp4"):
        frames = list(read_frames(shared / "videos" / name))
        tracker.reset()
        meshes = np.stack([tracker(frame).landmarks for frame in frames])
        found.append((Speech.open(shared / "videos" / name).samples()[: len(frames) * 640], meshes, frames))
    return found


@pytest.mark.parametrize("pictures", [False, True])
def test_the_judge_tells_a_late_sound_and_anothers(speakers: list[Speaker], pictures: bool) -> None:
    judge, rig = SyncJudge.load(), Rig.load()
    for i, (samples, meshes, frames) in enumerate(speakers):
        late = np.concatenate([np.zeros(round(0.12 * 16000), np.float32), samples])[: len(samples)]
        foreign = np.resize(speakers[1 - i][0], len(samples))
        if pictures:
            crops = sync.mouth_crops(frames, meshes)
            own, moved, other = (compare(judge.cosines_of_crops(crops, s)) for s in (samples, late, foreign))
            assert judge.of_frames(frames, meshes, samples) == own
        else:
            coefficients = rig.fit_video(meshes).coefficients
            own, moved, other = (judge.of_coefficients(coefficients, s) for s in (samples, late, foreign))
        assert abs(own.offset_s) < 0.07
        assert moved.offset_s - own.offset_s == pytest.approx(0.12, abs=0.04)
        assert other.score < own.score - 0.1
        assert verdict(own)[0] != "drop"
        assert verdict(other)[0] == "drop"
