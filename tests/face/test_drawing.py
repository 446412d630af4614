from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from magictalk.face.drawing import draw_landmarks
from magictalk.face.landmarks import mediapipe_solutions
from magictalk.face.pose import Pose, canonical


@pytest.fixture
def points() -> np.ndarray:
    turned = Pose(np.array([0.1, -0.3, 0.05]), np.array([250.0, 230.0]), 120.0)
    return turned.to_image(canonical())


def by_mediapipe(points: np.ndarray, side: int) -> np.ndarray:
    """The same by MediaPipe's own drawing, with the public network's colours as its authors state them in BGR."""
    from mediapipe.framework.formats.landmark_pb2 import NormalizedLandmark, NormalizedLandmarkList

    solutions = mediapipe_solutions()
    spec, lines = solutions.drawing_utils.DrawingSpec, solutions.face_mesh_connections
    colours = {
        lines.FACEMESH_FACE_OVAL: (10, 200, 10),
        lines.FACEMESH_LEFT_EYE: (180, 200, 10),
        lines.FACEMESH_LEFT_EYEBROW: (180, 220, 10),
        lines.FACEMESH_RIGHT_EYE: (10, 200, 180),
        lines.FACEMESH_RIGHT_EYEBROW: (10, 220, 180),
        lines.FACEMESH_LIPS: (10, 180, 10),
    }
    style = {edge: spec(color=c, thickness=2, circle_radius=1) for edges, c in colours.items() for edge in edges}
    marks = NormalizedLandmarkList(landmark=[NormalizedLandmark(x=x / side, y=y / side) for x, y in points])
    picture = np.zeros((side, side, 3), np.uint8)
    solutions.drawing_utils.draw_landmarks(picture, marks, list(style), None, style)
    for i, colour in ((468, (10, 200, 250)), (473, (250, 200, 10))):
        x, y = (int(side * (v / side)) for v in points[i])
        picture[y - 2 : y + 2, x - 2 : x + 2] = colour
    return picture[..., ::-1]


@pytest.mark.parametrize("side", [512, 768])
def test_it_is_what_the_public_network_was_taught(points: np.ndarray, side: int) -> None:
    points = points * side / 512
    assert (draw_landmarks(points, side) != by_mediapipe(points, side)).mean() < 1e-4  # float32 places beside a pixel


def test_small_pictures_show_the_same_in_lines_of_a_pixel(points: np.ndarray) -> None:
    small = draw_landmarks(points / 4, 128)
    assert small.shape == (128, 128, 3)
    large = draw_landmarks(points, 512).reshape(128, 4, 128, 4, 3).mean((1, 3))
    drawn = large.max(-1) > 60
    shown, thin = (picture.max(-1)[drawn] for picture in (small, large))
    assert np.quantile(shown, 0.05) > 90 and shown.mean() > 150 > thin.mean()
    near = np.asarray(binary_dilation(large.max(-1) > 0, iterations=1))
    assert small[~near].max() == 0


def test_what_lies_outside_is_left_out(points: np.ndarray) -> None:
    assert draw_landmarks(points - 600, 512).sum() == 0
    half = draw_landmarks(points - [250, 0], 512)
    assert half.any() and not np.array_equal(half, draw_landmarks(points, 512))


def test_lips_part_in_the_picture(points: np.ndarray) -> None:
    opened = points.copy()
    opened[[14, 87, 317, 86, 316, 15]] += [0, 20]
    assert not np.array_equal(draw_landmarks(opened, 512), draw_landmarks(points, 512))
