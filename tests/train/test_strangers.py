"""Strangers: faces that move as the known ones, with meshes that still lie on them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magictalk.face.landmarks import FaceDetector
from magictalk.face.pose import canonical
from magictalk.train.pictures import Clip
from magictalk.train.strangers import PIECE, bend, bent, moved, opposite, stranger

SIDE = 256


@pytest.fixture(scope="module")
def clip(astronaut: np.ndarray) -> Clip:
    picture = cv2.resize(np.ascontiguousarray(astronaut[:360, 60:420]), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    points = FaceDetector()(picture)[0].landmarks[:, :2]
    frames = 60
    return Clip(
        "astronaut", "people", "train", np.repeat(picture[None], frames, 0),
        np.repeat(points[None], frames, 0).astype(np.float32), np.arange(frames) != 0,
        np.zeros((SIDE, SIDE), np.uint8), np.zeros(128, np.float32),
    )  # fmt: skip


def nobody(picture: np.ndarray, mesh: np.ndarray) -> np.ndarray:
    return np.zeros(128, np.float32)


def test_halves_of_the_face_are_opposite() -> None:
    there = opposite()
    skin = there[:468]
    assert np.array_equal(np.sort(there), np.arange(478)) and np.array_equal(there[there], np.arange(478))
    assert there[33] == 263 and there[61] == 291 and there[1] == 1 and there[468] == 473
    face = canonical()
    assert np.abs(face[skin] * [-1, 1, 1] - face[:468]).max() < 0.02


@given(st.integers(0, 2**32 - 1))
def test_points_go_where_their_pixels_go(seed: int) -> None:
    rng = np.random.default_rng(seed)
    field = bend(64, rng)
    point = rng.uniform(20, 44, (1, 2)).astype(np.float32)
    y, x = np.mgrid[:64, :64].astype(np.float32)
    dot = np.exp(-((x - point[0, 0]) ** 2 + (y - point[0, 1]) ** 2) / 8)
    made = bent(dot, field)
    if made.max() < 0.5:  # it left the picture
        return
    heavy = made**4
    centre = np.array([(heavy * x).sum(), (heavy * y).sum()]) / heavy.sum()
    assert np.abs(moved(point, field)[0] - centre).max() < 1


@pytest.mark.parametrize("seed", range(4))
def test_the_mesh_lies_on_the_stranger(clip: Clip, seed: int) -> None:
    """The detector finds the mesh where it is said to be, mirrored or not."""
    person = np.ones(clip.frames.shape[:3], np.float32)
    made, mask = stranger(clip, person, nobody, np.random.default_rng(seed))
    assert len(made) == len(mask) == PIECE and made.frames.dtype == np.uint8 and made.points.dtype == np.float32
    assert np.array_equal(made.frames[0], made.frames[-1])  # a still clip: one bend for all frames
    assert not np.array_equal(made.frames[0], clip.frames[0])
    found = FaceDetector()(made.frames[0])[0].landmarks[:, :2]
    eyes = np.linalg.norm(made.points[0][33] - made.points[0][263])
    assert np.linalg.norm(found - made.points[0], axis=1).mean() < 0.06 * eyes


def test_both_halves_of_draws_are_mirrored(clip: Clip) -> None:
    person = np.ones(clip.frames.shape[:3], np.float32)
    turned = []
    for seed in range(12):
        made, _ = stranger(clip, person, nobody, np.random.default_rng(seed))
        right_eye, left_eye = made.points[0][33], made.points[0][263]
        assert right_eye[0] < left_eye[0]  # the person's right is on the left of the picture, always
        nose, rim = made.points[0][1], made.points[0][[234, 454]]
        turned.append((nose[0] - rim[0, 0]) / (rim[1, 0] - rim[0, 0]) > 0.5)
    assert 0 < sum(turned) < 12  # she looks to one side


def test_who_the_stranger_is_is_asked_of_a_seen_frame(clip: Clip) -> None:
    asked = []

    def recognise(picture: np.ndarray, mesh: np.ndarray) -> np.ndarray:
        asked.append((picture, mesh))
        return np.full(128, 2, np.float32)

    person = np.ones(clip.frames.shape[:3], np.float32)
    made, _ = stranger(clip, person, recognise, np.random.default_rng(1))
    ((picture, mesh),) = asked
    assert (made.face == 2).all() and np.array_equal(mesh[:, :2], made.points[0])
    assert np.array_equal(picture, made.frames[0])
