"""What is written of a clip plays, stays in step, and is the same bytes each time."""

import wave
from fractions import Fraction

import av
import numpy as np
import pytest

from magictalk.data.conform import annotate, boxes, write_sound, write_video
from magictalk.face.landmarks import FaceDetector
from magictalk.face.pose import Pose
from magictalk.face.rig import LIPS, Rig
from magictalk.motion import Motion
from magictalk.speech import Speech
from magictalk.video import probe, read_frames

SIZE = 128


def pictures(count):
    """Grey pictures, each lighter than the one before."""
    return (np.full((SIZE, SIZE, 3), 20 + 5 * t, np.uint8) for t in range(count))


def click(frames, at):
    samples = np.zeros(frames * 640, np.float32)
    samples[round(at * 16000) :][:1600] = 0.5 * np.sin(np.arange(1600) / 5)
    return samples


def test_frames_and_sound_come_back_in_step(tmp_path):
    write_video(tmp_path / "a.mp4", pictures(40), SIZE, click(40, 0.8))
    info = probe(tmp_path / "a.mp4")
    assert (info.width, info.height, info.fps, info.has_audio) == (SIZE, SIZE, 25, True)
    assert info.duration == pytest.approx(1.6, abs=0.07)
    found = [f.mean() for f in read_frames(tmp_path / "a.mp4")]
    assert found == pytest.approx([20 + 5 * t for t in range(40)], abs=1.5)
    heard = Speech.open(tmp_path / "a.mp4")
    assert heard.sound.rate == 16000
    assert np.argmax(np.abs(heard.samples()) > 0.1) / 16000 == pytest.approx(0.8, abs=0.012)
    with av.open(str(tmp_path / "a.mp4")) as file:
        assert file.streams.video[0].average_rate == Fraction(25) and len(file.streams.audio) == 1
        assert not any("generated" in str(v).lower() for v in file.metadata.values())  # it is a recording


def test_the_same_frames_give_the_same_bytes(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, pictures(30), SIZE, click(30, 0.5))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_wav_holds_the_samples(tmp_path):
    samples = np.array([0, 0.5, -1, 1], np.float32)
    write_sound(tmp_path / "a.wav", samples)
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
        found = np.frombuffer(file.readframes(4), "<i2")
    assert found / 32767 == pytest.approx(samples, abs=1 / 32767)


@pytest.fixture(scope="module")
def annotated(astronaut):
    """Ten frames of a mesh that moves to the right; the first and the fifth do not show it."""
    (face,) = FaceDetector()(astronaut)
    landmarks = np.stack([face.landmarks + np.array([2 * t, 0, 0], np.float32) for t in range(10)])
    landmarks[[0, 4]] = np.nan
    fit = Rig.load().fit_video(landmarks)
    return annotate(landmarks, fit, np.zeros(128, np.float32), astronaut), landmarks


def test_annotations_have_their_shapes(annotated):
    found, landmarks = annotated
    shapes = {
        "landmarks": (10, 478, 3), "seen": (10,), "coefficients": (10, 52), "head": (10, 6), "rotation": (10, 3),
        "origin_px": (10, 2), "scale_px": (10,), "depth_px": (10,), "neutral": (478, 3), "contour": (512, 64),
        "lip_box": (10, 4), "expression_box": (10, 4), "embedding": (128,),
    }  # fmt: skip
    assert {name: v.shape for name, v in found.items()} == shapes
    kinds = {name: v.dtype.name for name, v in found.items()}
    assert kinds.pop("seen") == "bool" and kinds.pop("contour") == "uint8" and set(kinds.values()) == {"float32"}
    assert found["seen"].tolist() == [t not in (0, 4) for t in range(10)]
    assert found["landmarks"][4, 1, 0] == pytest.approx(landmarks[[3, 5], 1, 0].mean(), abs=1e-3)  # in between
    assert np.isfinite(found["landmarks"]).all()


def test_annotations_agree_with_the_rig_and_with_motion(annotated):
    found, landmarks = annotated
    motion = Motion(found["coefficients"], found["head"])
    assert len(motion) == 10 and found["head"][1, 3:] == pytest.approx(0, abs=0.05)  # since the first frame seen
    assert found["head"][9, 3] == pytest.approx(16 / found["scale_px"].mean(), abs=0.06)
    pose = Pose(*(found[k].astype(np.float64) for k in ("rotation", "origin_px", "scale_px", "depth_px")))
    mesh = Rig.load().for_face(found["neutral"]).vertices(found["coefficients"], found["neutral"])
    away = np.linalg.norm(pose.to_image(mesh)[5] - landmarks[5, :, :2], axis=-1)
    assert away.mean() < 0.05 * found["scale_px"].mean()


def test_boxes_hold_what_they_are_of(annotated):
    found, _ = annotated
    for t in (1, 9):
        x, y, w, h = found["lip_box"][t]
        lips = found["landmarks"][t, list(LIPS), :2]
        assert (lips > [x, y]).all() and (lips < [x + w, y + h]).all()
        eyes = found["expression_box"][t]
        assert eyes[1] + eyes[3] < y + h and eyes[2] > w
    edges = np.unpackbits(found["contour"], axis=1)
    assert edges.shape == (512, 512) and 0.001 < edges.mean() < 0.2
    square = np.array([[[0, 0, 0], [10, 4, 0]]], np.float32)
    assert boxes(square, [0, 1], 0.1).tolist() == [[-1, -1, 12, 6]]
