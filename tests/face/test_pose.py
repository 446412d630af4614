"""Head pose: known poses are found again, and the camera does what the contract says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from magictalk.face.landmarks import FaceDetector
from magictalk.face.pose import CAMERA_DISTANCE, EYE_CORNERS, Pose, canonical, normalise, rigid_weights

angles = st.tuples(*[st.floats(-0.7, 0.7)] * 3).map(np.array)
origins = st.tuples(*[st.floats(-500, 2000)] * 2).map(np.array)
scales = st.floats(10, 800)


def project(points, rotation, origin, scale):
    """The contract's camera, written out on its own: (x, y) in pixels and z away from the viewer."""
    turned = (Rotation.from_rotvec(rotation).as_matrix() @ points.T).T
    flat = origin + scale * np.stack([turned[:, 0], -turned[:, 1]], 1)
    return np.concatenate([flat, -scale * turned[:, 2:]], 1)


def test_canonical_face_is_in_face_space():
    face = canonical()
    right, left = (face[list(pair)].mean(0) for pair in EYE_CORNERS)
    np.testing.assert_allclose(left - right, [1, 0, 0], atol=1e-5)
    np.testing.assert_allclose(left + right, 0, atol=1e-5)
    assert face[10, 1] > 0 > face[152, 1]  # y up: forehead above chin
    assert face[4, 2] > face[234, 2]  # z toward the viewer: nose before ear
    assert face[468, 0] < 0 < face[473, 0]
    assert not face.flags.writeable


@given(angles, origins, scales)
@settings(max_examples=60, deadline=None)
def test_fit_finds_a_known_pose(rotation, origin, scale):
    pose = Pose.fit(project(canonical().astype(float), rotation, origin, scale))
    np.testing.assert_allclose(pose.rotation, rotation, atol=1e-6)
    np.testing.assert_allclose(pose.origin_px, origin, atol=1e-4 * scale)
    assert pose.scale_px == pytest.approx(scale, rel=1e-6)


@given(angles, origins, scales)
@settings(max_examples=30, deadline=None)
def test_to_image_and_to_face_agree_with_the_camera(rotation, origin, scale):
    pose = Pose(rotation, origin, scale)
    points = canonical().astype(float)
    landmarks = project(points, rotation, origin, scale)
    np.testing.assert_allclose(pose.to_image(points), landmarks[:, :2], atol=1e-6)
    np.testing.assert_allclose(pose.to_image(points[5]), landmarks[5, :2], atol=1e-6)
    np.testing.assert_allclose(pose.to_face(landmarks), points, atol=1e-9)


def test_fit_ignores_a_moving_mouth_and_a_few_wild_points():
    rotation, origin, scale = np.array([0.1, -0.3, 0.2]), np.array([300.0, 200.0]), 120.0
    face = canonical().astype(float)
    moved = np.where(rigid_weights()[:, None] > 0, face, face + np.array([0, -0.5, 0.1]))
    landmarks = project(moved, rotation, origin, scale)
    landmarks[[103, 454, 356]] += 40  # pixels
    pose = Pose.fit(landmarks)
    assert np.linalg.norm(pose.rotation - rotation) < np.radians(1)
    assert np.linalg.norm(pose.origin_px - origin) < 0.02 * scale
    np.testing.assert_allclose(pose.scale_px, scale, rtol=0.01)


def test_sequence_is_the_frames_one_by_one():
    rng = np.random.default_rng(0)
    frames = np.stack([
        project(canonical(), rng.normal(0, 0.2, 3), rng.uniform(0, 500, 2), 80.0) + rng.normal(0, 1, (478, 3))
        for _ in range(5)
    ])  # fmt: skip
    poses = Pose.fit_sequence(frames)
    assert len(poses) == 5
    for t, frame in enumerate(frames):
        single = Pose.fit(frame)
        np.testing.assert_allclose(poses[t].rotation, single.rotation, atol=1e-12)
        np.testing.assert_allclose(poses[t].scale_px, single.scale_px)
    joined = Pose.join([poses[:2], poses[2:]])
    np.testing.assert_array_equal(joined.rotation, poses.rotation)
    np.testing.assert_array_equal(joined.depth_px, poses.depth_px)
    np.testing.assert_allclose(poses.to_face(frames)[3], poses[3].to_face(frames[3]))


@given(angles, angles, st.tuples(*[st.floats(-0.5, 0.5)] * 3), scales)
@settings(max_examples=40, deadline=None)
def test_move_and_head_since_are_inverse(start, turn, shift, scale):
    first = Pose(start, np.array([50.0, 60.0]), scale)
    moved = first.move(np.concatenate([turn, shift]))
    head = moved.head_since(first)
    np.testing.assert_allclose(head[3:], shift, atol=1e-9)
    expected = Rotation.from_rotvec(turn) * Rotation.from_rotvec(start)
    np.testing.assert_allclose(Rotation.from_rotvec(head[:3]).as_matrix(), expected.as_matrix(), atol=1e-9)
    np.testing.assert_allclose(moved.scale_px, scale * CAMERA_DISTANCE / (CAMERA_DISTANCE - shift[2]))


def test_moving_right_and_up_goes_right_and_up_in_the_picture():
    pose = Pose(np.zeros(3), np.array([100.0, 100.0]), 40.0).move([0, 0, 0, 0.5, 0.25, 0])
    np.testing.assert_allclose(pose.origin_px, [120, 90])


def test_normalise_undoes_scale_and_shift():
    face = canonical().astype(float)
    np.testing.assert_allclose(normalise(face * 3.7 + [1, -2, 5]), face, atol=1e-6)


def test_a_mirrored_photograph_has_the_mirrored_pose(astronaut):
    detector = FaceDetector()
    seen, mirrored = (Pose.fit(detector(np.ascontiguousarray(p))[0].landmarks) for p in (astronaut, astronaut[:, ::-1]))
    assert seen.origin_px[0] + mirrored.origin_px[0] == pytest.approx(511, abs=5)
    assert seen.scale_px == pytest.approx(mirrored.scale_px, rel=0.03)
    np.testing.assert_allclose(seen.rotation * [1, -1, -1], mirrored.rotation, atol=np.radians(4))
