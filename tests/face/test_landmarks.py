"""Faces are found where they are, at every size, and nowhere else."""

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from magictalk.face.landmarks import FaceDetector, FaceTracker


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


@pytest.fixture(scope="module")
def face(detector, astronaut):
    (face,) = detector(astronaut)
    return face


def shrink(image: np.ndarray, scale: float) -> np.ndarray:
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def paste(head: np.ndarray, picture: np.ndarray, x: int, y: int) -> np.ndarray:
    out = picture.copy()
    out[y : y + head.shape[0], x : x + head.shape[1]] = head
    return out


def test_mesh_lies_on_the_face(face, astronaut):
    assert face.landmarks.shape == (478, 3) and face.landmarks.dtype == np.float32
    # read off the picture by eye: pupils, mouth corners, chin
    for point, seen in {468: (203, 101), 473: (247, 103), 61: (203, 140), 291: (246, 141), 152: (222, 179)}.items():
        assert np.hypot(*(face.landmarks[point, :2] - seen)) < 2.5, point


@pytest.mark.parametrize("width", [25, 48, 90, 300])
def test_mesh_scales_with_the_picture(detector, face, astronaut, width):
    scale = width / face.box[2]
    small = shrink(astronaut, scale) if scale < 1 else cv2.resize(astronaut, None, fx=scale, fy=scale)
    (found,) = detector(small)
    away = np.linalg.norm(found.landmarks[:, :2] / scale - face.landmarks[:, :2], axis=1)
    assert away.mean() < 0.04 * face.box[2]


@pytest.mark.parametrize(("height", "width", "pixels"), [(1080, 1920, 50), (4320, 7680, 120), (4320, 7680, 1200)])
def test_face_in_a_large_picture(detector, face, astronaut, height, width, pixels):
    head = cv2.resize(astronaut[:220, 120:330], None, fx=pixels / face.box[2], fy=pixels / face.box[2])
    picture = paste(head, cv2.resize(data.coffee(), (width, height)), width // 3, height // 4)
    (found,) = detector(picture)
    assert found.box[2] == pytest.approx(pixels, rel=0.1)
    assert found.box[0] == pytest.approx(width // 3 + (face.box[0] - 120) * pixels / face.box[2], abs=0.1 * pixels)


def test_faces_come_from_left_to_right_whatever_their_size(detector, astronaut):
    head = astronaut[:220, 120:330]
    picture = np.full((500, 1200, 3), 128, np.uint8)
    for scale, x in ((0.6, 900), (1.5, 400), (1.0, 50)):
        picture = paste(cv2.resize(head, None, fx=scale, fy=scale), picture, x, 80)
    faces = detector(picture)
    assert [round(f.box[2], -1) for f in faces] == pytest.approx([92, 138, 55], abs=6)
    assert sorted(faces, key=lambda f: f.box[0]) == faces


@pytest.mark.parametrize("degrees", [-45, -20, 20, 45, 90])
def test_tilted_heads(detector, astronaut, degrees):
    turn = cv2.getRotationMatrix2D((225, 115), degrees, 1)
    picture = cv2.warpAffine(astronaut, turn, (512, 512), borderMode=cv2.BORDER_REFLECT)
    best = max(detector(picture), key=lambda f: f.box[2])
    eyes = best.landmarks[473, :2] - best.landmarks[468, :2]
    assert (np.degrees(np.arctan2(-eyes[1], eyes[0])) - degrees + 180) % 360 - 180 == pytest.approx(0, abs=8)


def test_face_that_fills_the_picture(detector, face, astronaut):
    x, y, w, h = (round(v) for v in face.box)
    assert len(detector(np.ascontiguousarray(astronaut[y : y + h, x : x + w]))) == 1


@pytest.mark.parametrize("name", ["coffee", "chelsea", "rocket", "retina", "coins", "brick", "page", "moon"])
def test_no_face_where_there_is_none(detector, name):
    picture = getattr(data, name)()
    assert detector(np.dstack([picture] * 3) if picture.ndim == 2 else picture) == []


def test_no_face_in_noise_or_nothing(detector):
    noise = np.random.default_rng(0).integers(0, 255, (600, 800, 3), np.uint8)
    for picture in (noise, np.zeros((64, 64, 3), np.uint8), np.full((1, 2000, 3), 255, np.uint8)):
        assert detector(picture) == []


def test_real_portraits(detector, shared):
    """Paintings, statues, cartoons, half profiles: one face each; cars, groceries and pets: none."""
    nobody = {"sam2__cars.jpg", "sam2__groceries.jpg", "JoyVASA__joyvasa_001.png", "LivePortrait__s41.jpg"}
    several = {"couple": 2, "obama_and_biden": 3, "two_people": 2}
    paths = [p for p in sorted((shared / "portraits").iterdir()) if p.suffix in (".jpg", ".jpeg", ".png")]
    counts = {p.name: len(detector(np.asarray(Image.open(p).convert("RGB")))) for p in paths}
    expected = {p.name: 0 if p.name in nobody else several.get(p.stem.split("__")[-1], 1) for p in paths}
    assert counts == expected


def test_tracker_follows_a_face_and_finds_it_again(astronaut):
    tracker = FaceTracker()
    scene = np.pad(astronaut[:300], ((0, 0), (200, 200), (0, 0)), mode="edge")
    lefts = [face.box[0] for x in range(0, 120, 10) if (face := tracker(np.roll(scene, x, 1)))]
    assert np.diff(lefts) == pytest.approx(np.full(11, 10), abs=3)
    assert tracker(np.zeros_like(scene)) is None
    again = tracker(scene)
    assert again is not None and again.box[0] == pytest.approx(lefts[0], abs=5)


def test_a_reset_tracker_finds_in_a_video_what_a_new_one_finds(astronaut):
    scene = np.pad(astronaut[:300], ((0, 0), (200, 200), (0, 0)), mode="edge")
    frames = [np.roll(scene, 3 * t, 1) for t in range(8)]
    tracker, found = FaceTracker(), []
    for _ in range(2):
        found.append(np.stack([tracker(frame).landmarks for frame in frames]))
        tracker(np.roll(scene, -80, 1))
        tracker.reset()
    assert np.array_equal(*found)


def test_still_face_does_not_jitter(astronaut):
    tracker = FaceTracker()
    meshes = [tracker(astronaut).landmarks for _ in range(12)]
    jitter = np.std(meshes[6:], axis=0)[:, :2]
    assert jitter.mean() < 0.15 and jitter.max() < 1


def test_native_libraries_keep_quiet_and_we_do_not():
    code = (
        "import sys; from skimage import data; from magictalk.face.landmarks import FaceDetector, FaceTracker\n"
        "print('before', file=sys.stderr); image = data.astronaut()\n"
        "assert len(FaceDetector()(image)) == 1 and FaceTracker()(image)\n"
        "print('after', file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert run.stderr.splitlines() == ["before", "after"]
