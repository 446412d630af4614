from pathlib import Path

import cv2
import numpy as np
import pytest

from magictalk.face.contour import contour
from magictalk.face.landmarks import FaceDetector
from magictalk.face.rig import IRISES, LIPS


@pytest.fixture(scope="module")
def mesh(astronaut: np.ndarray) -> np.ndarray:
    return max(FaceDetector()(astronaut), key=lambda face: face.box[2]).landmarks


def _distances(points: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """From each of the points ``[N, 2]`` to the nearest edge, pixels."""
    return cv2.distanceTransform((~edges).astype("u1"), cv2.DIST_L2, 5)[tuple(points[:, ::-1].astype(int).T)]


def test_features_are_drawn_unless_coarse(astronaut: np.ndarray, mesh: np.ndarray) -> None:
    fine, coarse = contour(astronaut, mesh), contour(astronaut, mesh, coarse=True)
    assert fine.shape == coarse.shape == (512, 512) and fine.dtype == coarse.dtype == bool
    features = np.concatenate([mesh[list(LIPS), :2], mesh[[*IRISES[0], *IRISES[1]], :2]])
    assert (_distances(features, fine) < 5).mean() > 0.8
    assert _distances(features, coarse).min() > 8
    assert 0.003 < coarse.mean() < 0.06 and 0.01 < fine.mean() < 0.1


def test_the_coarse_outline_follows_the_head(astronaut: np.ndarray, mesh: np.ndarray) -> None:
    coarse = contour(astronaut, mesh, coarse=True)
    top, bottom = mesh[:, 1].min(), mesh[:, 1].max()
    y, x = np.nonzero(coarse)
    rows = (y > top) & (y < bottom)
    left, right = mesh[:, 0].min(), mesh[:, 0].max()
    assert (x[rows] < left + 0.1 * (right - left)).any() and (x[rows] > right - 0.1 * (right - left)).any()


def test_the_background_is_left_out(astronaut: np.ndarray, mesh: np.ndarray) -> None:
    fine = contour(astronaut, mesh)
    assert not fine[:150, 440:].any()  # the shuttle behind her
    bars = np.array(astronaut)
    bars[:200, 420:] = 255 * (np.arange(92) // 4 % 2)[None, :, None]
    assert not contour(bars, mesh)[:150, 440:].any()


def test_size_and_light_change_little(astronaut: np.ndarray, mesh: np.ndarray) -> None:
    first = contour(astronaut, mesh)
    large = cv2.resize(astronaut, (1024, 1024), interpolation=cv2.INTER_CUBIC)
    for image, points, size in ((large, mesh * 2, 1024), ((astronaut * 0.5 + 20).astype("u1"), mesh, 512)):
        again = contour(image, points)
        assert again.shape == (size, size)
        small = cv2.resize(again.astype("u1"), (512, 512), interpolation=cv2.INTER_AREA)
        wide = cv2.dilate(first.astype("u1"), np.ones((7, 7)))
        assert (wide[small > 0] > 0).mean() > 0.85


def test_the_same_picture_gives_the_same_lines(astronaut: np.ndarray, mesh: np.ndarray) -> None:
    assert (contour(astronaut, mesh) == contour(astronaut, mesh)).all()


def test_odd_shapes_and_faces_half_outside(astronaut: np.ndarray, mesh: np.ndarray) -> None:
    left = int(mesh[:, 0].mean())
    for coarse in (False, True):
        assert contour(astronaut[7:300, left:501], mesh - [left, 7, 0], coarse).shape == (293, 501 - left)


def test_a_statue_without_a_person_around_has_its_face(shared: Path) -> None:
    from PIL import Image

    image = np.array(Image.open(shared / "portraits" / "AAAI22-one-shot-talking-face__statue2.jpg").convert("RGB"))
    face = max(FaceDetector()(image), key=lambda face: face.box[2]).landmarks
    assert (_distances(face[list(LIPS), :2], contour(image, face)) < 6).mean() > 0.6


def test_coarse_lines_stay_out_of_real_faces(shared: Path) -> None:
    """Share of edge pixels inside the face oval, over portraits: next to none where the outline alone is wanted."""
    from PIL import Image

    detector, inside = FaceDetector(), {False: [], True: []}
    for path in sorted((shared / "portraits").glob("*"))[:12]:
        image = np.array(Image.open(path).convert("RGB"))
        image = np.ascontiguousarray(cv2.resize(image, None, fx=512 / max(image.shape), fy=512 / max(image.shape)))
        faces = detector(image)
        if not faces:
            continue
        face = max(faces, key=lambda face: face.box[2]).landmarks
        oval = np.zeros(image.shape[:2], "u1")
        hull = cv2.convexHull(face[:, :2].astype(np.int32))
        middle = hull.mean((0, 1))
        cv2.fillConvexPoly(oval, (middle + 0.85 * (hull - middle)).astype(np.int32), 1)
        for coarse, shares in inside.items():
            edges = contour(image, face, coarse)
            shares.append((edges & (oval > 0)).sum() / max(1, edges.sum()))
    assert len(inside[True]) > 6
    assert np.mean(inside[True]) < 0.01 and max(inside[True]) < 0.05 and np.mean(inside[False]) > 0.2
