"""Find faces: MediaPipe's 478-point mesh on pictures and videos, nothing downloaded.

The models ship inside ``mediapipe==0.10.21``. Coarse detectors propose boxes over a pyramid of tiles, so that
a small face in a large picture is seen; the mesh network looks at a square crop around each box; and a mesh
counts only when the mirrored crop gives the mirrored mesh, which headlights and animals do not.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from magictalk.errors import MissingDependencyError

Box = tuple[float, float, float, float]
"""``(x, y, width, height)`` in image pixels."""

LANDMARKS = 478
"""Points of the mesh: 468 on the skin, then 5 on each iris (centre first)."""


_TILE = 512
"""Side of a pyramid tile in pixels; the coarse networks see faces down to about a twentieth of it."""

_MIRRORED = np.array(
    [(33, 263), (133, 362), (61, 291), (105, 334), (234, 454), (1, 1), (0, 0), (17, 17), (10, 10), (152, 152)]
)
"""Points of the mesh and their counterparts on the other half of the face."""


@dataclass(frozen=True)
class Face:
    """One face in one picture.

    Attributes:
        landmarks: float32 ``[478, 3]``, x and y in image pixels, z in pixels of the same scale,
            growing away from the camera (MediaPipe's convention).
    """

    landmarks: NDArray[np.float32]

    @property
    def box(self) -> Box:
        """``(x, y, width, height)`` of the mesh in image pixels."""
        low, high = self.landmarks[:, :2].min(0), self.landmarks[:, :2].max(0)
        return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the native libraries' start-up chatter off the terminal; they write to the descriptor, not to Python."""
    sys.stderr.flush()
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def mediapipe_solutions() -> Any:
    """``mediapipe.solutions``, imported when first needed.

    Raises:
        MissingDependencyError: when it, or a system library under it, is not installed.
    """
    try:
        with quiet():
            import mediapipe
    except ImportError as error:
        raise MissingDependencyError(
            f"mediapipe cannot be imported ({error}); pip install mediapipe==0.10.21, and if libGL is missing: "
            "apt-get install libgl1"
        ) from error
    return mediapipe.solutions


class _Network:
    """A MediaPipe network, kept quiet until its first find: what its parts have to tell, they tell by then."""

    def __init__(self, kind: Any, **options: Any) -> None:
        with quiet():
            self._network = kind(min_detection_confidence=0.3, **options)
            self._wait()

    def reset(self) -> None:
        """Forget the pictures seen; starts the network anew."""
        with quiet():
            self._network.reset()
            self._wait()

    def _wait(self) -> None:
        self._network.process(np.zeros((64, 64, 3), np.uint8))  # returns when its threads have started
        self._settled = False

    def __call__(self, image: NDArray[np.uint8]) -> list[Any]:
        """Detections or meshes in an RGB picture ``[H, W, 3]`` uint8, as MediaPipe's messages."""
        image = np.ascontiguousarray(image)
        if self._settled:
            return self._found(self._network.process(image))
        with quiet():
            found = self._found(self._network.process(image))
        self._settled = bool(found)
        return found

    @staticmethod
    def _found(result: Any) -> list[Any]:
        return list(getattr(result, "detections", None) or getattr(result, "multi_face_landmarks", None) or ())


def _mesh_network(still: bool) -> _Network:
    kind = mediapipe_solutions().face_mesh.FaceMesh
    return _Network(kind, static_image_mode=still, max_num_faces=1, refine_landmarks=True)


@dataclass(frozen=True)
class _Crop:
    """A square part of a picture, black outside of it: image point = origin + crop point / scale."""

    pixels: NDArray[np.uint8]
    origin: NDArray[np.float64]
    scale: float

    @staticmethod
    def around(image: NDArray[np.uint8], box: Box, margin: float, size: int) -> _Crop:
        """``margin`` times the box, shrunk to ``size`` pixels, or enlarged to half of that."""
        x, y, w, h = box
        side = max(8.0, margin * max(w, h))
        scale = size / side if side > size else max(1.0, size / 2 / side)
        left, top = x + w / 2 - side / 2, y + h / 2 - side / 2
        n = max(8, round(side * scale))
        if scale < 0.5:  # warpAffine has no area filter: shrink first
            x0, y0 = max(0, int(left)), max(0, int(top))
            part = image[y0 : max(y0 + 1, int(top + side) + 1), x0 : max(x0 + 1, int(left + side) + 1)]
            part = np.asarray(cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
            matrix = np.array([[1, 0, (x0 - left) * scale], [0, 1, (y0 - top) * scale]])
        else:
            part, matrix = image, np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
        pixels = cv2.warpAffine(part, matrix, (n, n), flags=cv2.INTER_LINEAR)
        return _Crop(np.asarray(pixels, np.uint8), np.array([left, top]), scale)

    def landmarks(self, network: _Network, mirror: bool = False) -> NDArray[np.float64] | None:
        """The mesh ``[478, 3]`` in pixels of the crop, read from its mirror image if asked to, or None."""
        found = network(self.pixels[:, ::-1] if mirror else self.pixels)
        if not found:
            return None
        points = np.array([(p.x, p.y, p.z) for p in found[0].landmark], np.float64) * len(self.pixels)
        if mirror:
            points[:, 0] = len(self.pixels) - points[:, 0]
        return points

    def face(self, points: NDArray[np.float64]) -> Face:
        """The mesh in pixels of the picture."""
        points = points / self.scale
        points[:, :2] += self.origin
        return Face(points.astype(np.float32))


def _overlap(a: Box, b: Box) -> float:
    """Intersection over the smaller area of two boxes."""
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(0.0, w) * max(0.0, h) / max(1e-6, min(a[2] * a[3], b[2] * b[3]))


class FaceDetector:
    """Faces of a still picture. Keeps the loaded networks; build once, call often."""

    def __init__(self) -> None:
        detection = mediapipe_solutions().face_detection.FaceDetection
        # the far-sighted network and the near-sighted one
        self._coarse = [_Network(detection, model_selection=m) for m in (1, 0)]
        self._mesh = _mesh_network(still=True)

    def __call__(self, image: NDArray[np.uint8]) -> list[Face]:
        """All faces of an RGB picture ``[H, W, 3]`` uint8, from left to right; empty when there is none.

        The whole picture and its quarters are always looked at, ever smaller tiles until there is a face.
        """
        longest = max(image.shape[:2])
        faces: list[Face] = []
        for tiles in (1, 2, 4, 8):
            if (tiles > 1 and longest / tiles < 300) or (tiles > 2 and faces):
                break
            for box in self._boxes(image, tiles):
                if all(_overlap(box, other.box) < 0.4 for other in faces):
                    face = self.mesh(image, box)
                    if face is not None and all(_overlap(face.box, other.box) < 0.4 for other in faces):
                        faces.append(face)
        return sorted(faces, key=lambda f: f.box[0] + f.box[2] / 2)

    def _boxes(self, image: NDArray[np.uint8], tiles: int) -> list[Box]:
        """Coarse boxes in image pixels, best first, over overlapping tiles of 1/``tiles`` of the longer side."""
        scale = min(1.0, _TILE * tiles / max(image.shape[:2]))
        if scale < 1:
            small = [max(1, round(n * scale)) for n in image.shape[1::-1]]
            image = np.asarray(cv2.resize(image, small, interpolation=cv2.INTER_AREA), np.uint8)
        height, width = image.shape[:2]
        side = -(-max(height, width) // tiles)
        found: list[tuple[float, Box]] = []
        for top in _steps(height, side):
            for left in _steps(width, side):
                tile = image[top : top + side, left : left + side]
                h, w = tile.shape[:2]
                for detector in self._coarse:
                    for seen in detector(tile):
                        r = seen.location_data.relative_bounding_box
                        box = (left + r.xmin * w, top + r.ymin * h, r.width * w, r.height * h)
                        found.append((seen.score[0], tuple(v / scale for v in box)))  # type: ignore[arg-type]
        kept: list[Box] = []
        for _, box in sorted(found, key=lambda f: -f[0]):
            if all(_overlap(box, other) < 0.4 for other in kept):
                kept.append(box)
        return kept

    def mesh(self, image: NDArray[np.uint8], box: Box, doubt: bool = True) -> Face | None:
        """The mesh of the face inside ``box``, or None when there is none; without ``doubt`` anything face-like."""
        for margin in (2.2, 1.5):  # closer when a neighbour was seen instead
            crop = _Crop.around(image, box, margin, size=512)
            points, mirrored = crop.landmarks(self._mesh), crop.landmarks(self._mesh, mirror=True)
            if points is None or mirrored is None:
                continue
            face = crop.face(points)
            if _overlap(face.box, box) > 0.4:
                apart = points[_MIRRORED, :2] - mirrored[_MIRRORED[:, ::-1], :2]
                known = np.linalg.norm(apart, axis=-1).mean() < 0.045 * crop.scale * max(face.box[2:])
                return face if known or not doubt else None
        return None


def _steps(length: int, side: int) -> list[int]:
    """Where tiles of ``side`` start so that they cover ``length`` and overlap by 0.4 of their side or more."""
    count = 1 if length <= side else -(-(length - side) * 5 // (side * 3)) + 1
    return [round(x) for x in np.linspace(0, max(0, length - side), count)]


class FaceTracker:
    """The one face of a video, frame after frame.

    The crop given to the mesh network stays put until the face leaves its middle, so that the
    network's own tracking holds and the points do not jitter with the crop.
    """

    def __init__(self, detector: FaceDetector | None = None) -> None:
        self._detector = detector or FaceDetector()
        self._mesh = _mesh_network(still=False)
        self._box: Box | None = None

    def reset(self) -> None:
        """Forget the video so far: what is found in the next one does not depend on it."""
        self._box = None

    def __call__(self, frame: NDArray[np.uint8]) -> Face | None:
        """The face in the next RGB frame ``[H, W, 3]`` uint8, or None when it is out of sight."""
        if self._box is None:
            self._box = max((f.box for f in self._detector(frame)), key=lambda b: b[2] * b[3], default=None)
            if self._box is None:
                return None
            self._mesh.reset()
        crop = _Crop.around(frame, self._box, margin=2.6, size=384)
        points = crop.landmarks(self._mesh)
        if points is None:
            self._box = None
            return None
        face = crop.face(points)
        x, y, w, h = face.box
        bx, by, bw, bh = self._box
        drift = np.hypot(x + w / 2 - bx - bw / 2, y + h / 2 - by - bh / 2)
        if drift > 0.45 * max(bw, bh) or not 0.6 < max(w, h) / max(bw, bh) < 1.6:
            self._box = face.box
            self._mesh.reset()  # what it remembers is a place in the old crop
        return face
