"""The rig: shapes do what ARKit's names say, and the inverse finds what the forward made."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magictalk.errors import MotionError
from magictalk.face import rig as parts
from magictalk.face.landmarks import FaceDetector, FaceTracker
from magictalk.face.pose import Pose, normalise
from magictalk.face.rig import Rig, fill_gaps, inner_lip_gap, jaw_drop, mouth_width
from magictalk.motion import ARKIT

K = {name: i for i, name in enumerate(ARKIT)}


@pytest.fixture(scope="module")
def rig():
    return Rig.load()


@pytest.fixture(scope="module")
def astronaut_mesh(astronaut):
    return FaceDetector()(astronaut)[0].landmarks


def face(rig, **coefficients):
    c = np.zeros(52, np.float32)
    for name, value in coefficients.items():
        c[K[name]] = value
    return rig.vertices(c).astype(np.float64)


def lid_gap(points, eye):
    return (points[list(parts.UPPER_LIDS[eye][1:6]), 1] - points[list(parts.LOWER_LIDS[eye][1:6]), 1]).mean()


def test_asset_has_the_contract_shapes(rig):
    assert rig.neutral.shape == (478, 3) and rig.neutral.dtype == np.float32
    assert rig.shapes.shape == (52, 478, 3) and rig.shapes.dtype == np.float32
    assert rig.triangles.shape[1] == 3 and rig.triangles.dtype == np.int32 and rig.triangles.max() == 467
    assert rig.identity.shape[1:] == (478, 3)
    assert all(np.abs(shape).max() > 0.02 for shape in rig.shapes)
    np.testing.assert_allclose(normalise(rig.neutral), rig.neutral, atol=1e-5)
    asset = Path(parts.__file__).parents[1] / "assets" / "rig" / "rig.safetensors"
    assert asset.stat().st_size < 1_000_000


def test_left_is_the_persons_left(rig):
    for name in ARKIT:
        if name.endswith(("Left", "Right")) and not name.startswith(("jaw", "mouthLeft", "mouthRight")):
            size = np.linalg.norm(rig.shapes[K[name]], axis=-1)
            middle = (rig.neutral[:, 0] * size).sum() / size.sum()
            assert (middle > 0.1) if name.endswith("Left") else (middle < -0.1), name
    assert face(rig, jawLeft=1)[152, 0] > 0.05 and face(rig, mouthRight=1)[13, 0] < -0.05


def test_shapes_are_symmetric(rig):
    for name in ARKIT:
        if name.endswith("Left"):
            left, right = rig.shapes[K[name]], rig.shapes[K[name.removesuffix("Left") + "Right"]]
            np.testing.assert_allclose(np.sort(left[:, 1]), np.sort(right[:, 1]), atol=2e-3)
            np.testing.assert_allclose(np.sort(left[:, 0]), np.sort(-right[:, 0]), atol=2e-3)


def test_shapes_mean_what_arkit_means(rig):
    rest = face(rig)
    corners = [61, 291]
    assert inner_lip_gap(rest) < 0.01
    assert inner_lip_gap(face(rig, jawOpen=1)) > 0.15 and jaw_drop(face(rig, jawOpen=1)) > jaw_drop(rest) + 0.3
    assert mouth_width(face(rig, mouthPucker=1)) < 0.9 * mouth_width(rest)
    assert mouth_width(face(rig, mouthFunnel=1)) < mouth_width(rest) and inner_lip_gap(face(rig, mouthFunnel=1)) > 0.1
    smile = face(rig, mouthSmileLeft=1, mouthSmileRight=1)
    assert (smile[corners, 1] > rest[corners, 1] + 0.05).all() and mouth_width(smile) > 1.05 * mouth_width(rest)
    frown = face(rig, mouthFrownLeft=1, mouthFrownRight=1)
    assert (frown[corners, 1] < rest[corners, 1] - 0.02).all()
    assert mouth_width(face(rig, mouthStretchLeft=1, mouthStretchRight=1)) > 1.05 * mouth_width(rest)
    assert face(rig, mouthUpperUpLeft=1)[310, 1] > rest[310, 1] + 0.04
    assert face(rig, mouthLowerDownRight=1)[88, 1] < rest[88, 1] - 0.03
    assert face(rig, browInnerUp=1)[[66, 296], 1].min() > rest[[66, 296], 1].max() + 0.03
    assert face(rig, browDownLeft=1)[296, 1] < rest[296, 1] - 0.03
    assert face(rig, browOuterUpRight=1)[105, 1] > rest[105, 1] + 0.03
    assert face(rig, jawForward=1)[152, 2] > rest[152, 2] + 0.03
    assert lid_gap(face(rig, eyeWideLeft=1), 1) > 1.2 * lid_gap(rest, 1)
    assert lid_gap(face(rig, eyeSquintLeft=1), 1) < 0.9 * lid_gap(rest, 1)
    for name in ("mouthSmileLeft", "mouthPucker", "mouthDimpleRight", "mouthRollLower", "mouthPressLeft"):
        assert inner_lip_gap(face(rig, **{name: 1})) < 0.02, name


def test_irises_turn_about_thirty_degrees(rig):
    rest = face(rig)
    for name, eye, axis, sign in (
        ("eyeLookUpLeft", 1, 1, 1), ("eyeLookDownRight", 0, 1, -1), ("eyeLookInLeft", 1, 0, -1),
        ("eyeLookOutLeft", 1, 0, 1), ("eyeLookInRight", 0, 0, 1), ("eyeLookOutRight", 0, 0, -1),
    ):  # fmt: skip
        centre = parts.IRISES[eye][0]
        moved = (face(rig, **{name: 1})[centre] - rest[centre])[axis] * sign
        assert moved == pytest.approx(0.19 * np.sin(np.radians(30)), abs=0.005), name


@given(st.floats(0.4, 2.5), st.floats(0, 0.15))
@settings(max_examples=20, deadline=None)
def test_every_eye_shuts_and_every_mouth_closes(opening, gap):
    rig = Rig.load()
    neutral = rig.neutral.astype(np.float64)
    for upper, lower in zip(parts.UPPER_LIDS, parts.LOWER_LIDS, strict=True):
        u, d = list(upper), list(lower)
        neutral[u, 1] = neutral[d, 1] + opening * (neutral[u, 1] - neutral[d, 1])
    neutral[list(parts.LOWER_INNER_LIP), 1] -= gap
    own = rig.for_face(neutral)
    shut = face(own, eyeBlinkLeft=1, eyeBlinkRight=1)
    for upper, lower in zip(parts.UPPER_LIDS, parts.LOWER_LIDS, strict=True):
        np.testing.assert_allclose(shut[list(upper)], shut[list(lower)], atol=1e-4)
    closed = face(own, jawOpen=1, mouthClose=1)
    upper, lower = list(parts.UPPER_INNER_LIP[1:-1]), list(parts.LOWER_INNER_LIP)
    np.testing.assert_allclose(closed[upper], closed[lower], atol=1e-4)
    assert jaw_drop(closed) > jaw_drop(neutral) + 0.3
    assert np.abs(own.shapes[K["eyeBlinkLeft"]][[13, 14, 152, 4, 33]]).max() < 0.01  # nothing far away moves


@given(st.lists(st.sampled_from([n for n in ARKIT if n != "tongueOut"]), min_size=1, max_size=4), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_fit_finds_the_mesh_that_coefficients_made(names, seed):
    rig = Rig.load()
    rng = np.random.default_rng(seed)
    c = np.zeros((3, 52), np.float32)
    c[:, [K[n] for n in set(names) if "Look" not in n]] = rng.uniform(0.2, 0.9)
    made = rig.vertices(c)
    found = rig.fit(made, smooth=0.0)
    assert found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1
    error = np.linalg.norm((rig.vertices(found) - made)[..., :2], axis=-1)
    assert error.mean() < 0.006 and error[:, list(parts.LIPS)].mean() < 0.015


def test_fit_finds_gaze(rig):
    c = np.zeros((1, 52), np.float32)
    c[0, [K["eyeLookInLeft"], K["eyeLookOutRight"], K["eyeLookUpLeft"], K["eyeLookUpRight"]]] = 0.5, 0.5, 0.3, 0.3
    found = rig.fit(rig.vertices(c))
    np.testing.assert_allclose(found[0, 1:5], c[0, 1:5], atol=0.05)
    np.testing.assert_allclose(found[0, 8:12], c[0, 8:12], atol=0.05)


def test_smoothing_calms_trembling_meshes(rig):
    rng = np.random.default_rng(1)
    noisy = rig.vertices(np.full((40, 52), 0.15)) + rng.normal(0, 0.01, (40, 478, 3))
    rough, calm = (rig.fit(noisy, smooth=s) for s in (0.0, 0.1))
    assert np.abs(np.diff(calm, axis=0)).mean() < 0.6 * np.abs(np.diff(rough, axis=0)).mean()


def test_portrait_fit_reproduces_the_mesh_exactly(rig, astronaut_mesh):
    fit = rig.fit_portrait(astronaut_mesh)
    own = rig.for_face(fit.neutral)
    np.testing.assert_allclose(fit.pose.to_image(own.vertices(fit.coefficients)), astronaut_mesh[:, :2], atol=0.05)
    right, left = (fit.neutral[list(pair)].mean(0) for pair in ((33, 133), (362, 263)))
    assert np.linalg.norm(left - right) == pytest.approx(1, abs=0.05)


def test_an_open_smile_is_expression_not_identity(rig, astronaut_mesh):
    fit = rig.fit_portrait(astronaut_mesh)  # she smiles broadly and shows her teeth
    made = rig.for_face(fit.neutral).vertices(fit.coefficients)
    assert min(fit.coefficients[[K["mouthSmileLeft"], K["mouthSmileRight"]]]) > 0.2
    assert inner_lip_gap(fit.neutral) < 0.4 * inner_lip_gap(made)
    assert mouth_width(fit.neutral) < 0.95 * mouth_width(made)


def test_video_fit_finds_motion_and_pose(rig):
    t = np.arange(60) / 25
    c = np.zeros((60, 52), np.float32)
    c[:, K["jawOpen"]] = 0.2 * (1 - np.cos(9 * t))
    c[:, K["mouthPucker"]] = 0.25 * (1 - np.cos(4 * t))
    c[20:24, [K["eyeBlinkLeft"], K["eyeBlinkRight"]]] = 1
    person = normalise(rig.neutral + 0.8 * rig.identity[0] - 0.5 * rig.identity[2])
    made = rig.for_face(person).vertices(c)
    turn = np.stack([0.1 * np.sin(2 * t), 0.2 * np.cos(t), 0.05 * np.sin(3 * t)], 1)
    pose = Pose(turn, np.full((60, 2), 256.0), np.full(60, 90.0))
    depth = -(np.einsum("tij,tnj->tni", pose.matrix(), made)[..., 2:]) * 90
    fit = rig.fit_video(np.concatenate([pose.to_image(made), depth], -1))
    assert np.abs(fit.pose.rotation - turn).max() < np.radians(2.5)
    real, found = made, rig.for_face(fit.neutral).vertices(fit.coefficients)
    for measure in (inner_lip_gap, mouth_width, jaw_drop):
        assert np.corrcoef(measure(real), measure(found))[0, 1] > 0.97
    blink = fit.coefficients[:, K["eyeBlinkLeft"]]
    assert blink[21:23].min() > 0.9 and blink[:15].max() < 0.2


def test_parts_of_a_long_video_join_without_a_seam(rig, monkeypatch):
    rng = np.random.default_rng(2)
    c = np.cumsum(rng.normal(0, 0.02, (300, 52)), 0).clip(0, 0.5)
    meshes = rig.vertices(c) * [100, -100, -100] + [256, 256, 0]
    whole = rig.fit_video(meshes)
    monkeypatch.setattr(parts, "CHUNK", 80)
    split = rig.fit_video(meshes)
    assert split.coefficients.shape == (300, 52) and len(split.pose) == 300
    np.testing.assert_allclose(split.coefficients, whole.coefficients, atol=0.03)


def test_gaps_are_bridged_and_an_absent_face_is_refused():
    meshes = np.arange(5, dtype=float)[:, None, None] * np.ones((5, 478, 3))
    meshes[2] = np.nan
    np.testing.assert_allclose(fill_gaps(meshes)[2], 2)
    with pytest.raises(MotionError, match="no face in any of 5 frames"):
        fill_gaps(np.full((5, 478, 3), np.nan))


def test_real_speech_is_explained(shared, rig):
    from magictalk.video import read_frames

    tracker = FaceTracker()
    frames = read_frames(shared / "videos/noncommercial/talkvid__Gender_female_4.mp4", duration=2.0)
    meshes = np.stack([tracker(f).landmarks for f in frames])
    fit = rig.fit_video(meshes)
    real, made = fit.pose.to_face(meshes), rig.for_face(fit.neutral).vertices(fit.coefficients)
    assert np.linalg.norm((real - made)[:, list(parts.LIPS), :2], axis=-1).mean() < 0.01
    assert np.corrcoef(inner_lip_gap(real), inner_lip_gap(made))[0, 1] > 0.97
