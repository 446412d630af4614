"""Head pose: fit the canonical face to a mesh; face space to image and back.

Face space has its origin between the eyes' centres, one inter-ocular distance (the distance between those
centres) as its unit, x right in the picture, y up, z toward the viewer. The camera is weak perspective: a
face-space point ``X`` lands on ``origin_px + scale_px * (x, -y)`` of ``R X``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

CAMERA_DISTANCE = 10.0
"""Viewer's distance in inter-ocular units (about 60 cm); turns a move along z into a change of scale."""

EYE_CORNERS = ((33, 133), (362, 263))
"""Corner points of the eye on the picture's left and on its right."""

_FLIP = np.array([1.0, -1.0, -1.0])  # image axes (y down, z away) to face axes (y up, z toward the viewer)

_RIGID = {
    2.0: (33, 133, 362, 263, 168, 6, 197, 195),  # eye corners, nose bridge
    1.0: (10, 109, 67, 103, 338, 297, 332, 54, 284, 21, 251, 162, 389, 127, 356, 234, 454, 122, 351, 193, 417, 5, 4),
    0.5: (151, 8, 9, 69, 299, 104, 333, 68, 298, 71, 301, 139, 368, 34, 264, 227, 447, 116, 345, 143, 372, 156, 383,
          93, 323, 137, 366, 1, 2, 98, 327, 188, 412, 174, 399),
}  # fmt: skip


def rigid_weights() -> NDArray[np.float64]:
    """Weight of each mesh point in the pose, ``[478]``: how nearly it moves with the skull.

    Eye corners and nose bridge count 2; hairline, temples and nose ridge 1; forehead, cheekbones, the
    face's rim beside the ears and the nose's base 0.5; whatever lips, jaw, lids or brows move counts 0.
    """
    weights = np.zeros(478)
    for weight, points in _RIGID.items():
        weights[list(points)] = weight
    return weights


@cache
def canonical() -> NDArray[np.float32]:
    """The mean face at rest as MediaPipe sees it, irises included, in face space ``[478, 3]``, read-only."""
    from safetensors.numpy import load_file

    points = load_file(str(files("magictalk") / "assets" / "rig" / "rig.safetensors"))["neutral"].astype(np.float32)
    points.setflags(write=False)
    return points


def normalise(points: ArrayLike) -> NDArray[np.float64]:
    """Move and scale points ``[478 or 468, 3]`` with face axes so that they fulfil face space's definition."""
    points = np.asarray(points, np.float64)
    right, left = (points[list(pair)].mean(0) for pair in EYE_CORNERS)
    return (points - (right + left) / 2) / np.linalg.norm(left - right)


@dataclass(frozen=True)
class Pose:
    """Where a head is in the picture; fields may carry a leading axis ``[T]`` for the frames of a video.

    Attributes:
        rotation: float64 ``[..., 3]`` rotation vector, radians; zero faces the camera.
        origin_px: float64 ``[..., 2]`` where the point between the eyes lands, pixels.
        scale_px: float64 ``[...]`` pixels per inter-ocular distance.
        depth_px: float64 ``[...]`` what the landmarks' z reads at the origin; pictures do not depend on it.
    """

    rotation: NDArray[np.float64]
    origin_px: NDArray[np.float64]
    scale_px: NDArray[np.float64] | float
    depth_px: NDArray[np.float64] | float = 0.0

    def __len__(self) -> int:
        return len(self.rotation) if np.ndim(self.rotation) == 2 else 1

    def __getitem__(self, frame: int | slice) -> Pose:
        """One frame, or some, of a video's poses."""
        depth = np.broadcast_to(self.depth_px, np.shape(self.scale_px))
        return Pose(self.rotation[frame], self.origin_px[frame], np.asarray(self.scale_px)[frame], depth[frame])

    @staticmethod
    def join(parts: Sequence[Pose]) -> Pose:
        """The poses of a video's parts, one after the other."""
        depths = [np.broadcast_to(p.depth_px, np.shape(p.scale_px)) for p in parts]
        return Pose(
            np.concatenate([p.rotation for p in parts]),
            np.concatenate([p.origin_px for p in parts]),
            np.concatenate([np.asarray(p.scale_px) for p in parts]),
            np.concatenate(depths),
        )

    def matrix(self) -> NDArray[np.float64]:
        """Rotation matrices ``[..., 3, 3]``."""
        return Rotation.from_rotvec(self.rotation).as_matrix()

    def to_image(self, points: ArrayLike) -> NDArray[np.float64]:
        """Face-space points ``[..., N, 3]`` (or one, ``[3]``) to image pixels ``[..., N, 2]``."""
        points = np.asarray(points, np.float64)
        if points.ndim == 1:
            return self.to_image(points[None])[..., 0, :]
        turned = points @ np.swapaxes(self.matrix(), -1, -2)
        scale = np.asarray(self.scale_px)[..., None, None]
        return np.asarray(self.origin_px)[..., None, :] + scale * turned[..., :2] * [1.0, -1.0]

    def to_face(self, landmarks_px: ArrayLike) -> NDArray[np.float64]:
        """Mesh points ``[..., N, 3]`` (x, y in pixels, z in the same unit, away from the camera) to face space."""
        depth = np.broadcast_to(self.depth_px, np.shape(self.scale_px))
        origin = np.concatenate([self.origin_px, depth[..., None]], -1)
        camera = (np.asarray(landmarks_px, np.float64) - origin[..., None, :]) * _FLIP
        return camera @ self.matrix() / np.asarray(self.scale_px)[..., None, None]

    def move(self, head: ArrayLike) -> Pose:
        """This pose after the relative head motion ``[..., 6]`` of a ``Motion``: rotation, then translation."""
        head = np.asarray(head, np.float64)
        rotation = Rotation.from_rotvec(head[..., :3]) * Rotation.from_rotvec(self.rotation)
        shift = head[..., 3:5] * [1.0, -1.0] * np.asarray(self.scale_px)[..., None]
        closer = CAMERA_DISTANCE / (CAMERA_DISTANCE - head[..., 5])
        return Pose(rotation.as_rotvec(), self.origin_px + shift, self.scale_px * closer, self.depth_px * closer)

    def head_since(self, first: Pose) -> NDArray[np.float64]:
        """``Motion.head`` ``[..., 6]``: absolute rotation, and the translation in face space since ``first``."""
        first_scale = np.asarray(first.scale_px)
        shift = (self.origin_px - first.origin_px) / first_scale[..., None] * [1.0, -1.0]
        toward = CAMERA_DISTANCE * (1 - first_scale / np.asarray(self.scale_px))
        return np.concatenate([self.rotation, shift, toward[..., None]], -1)

    @staticmethod
    def fit(landmarks_px: ArrayLike, reference: ArrayLike | None = None) -> Pose:
        """Pose of one mesh ``[478, 3]`` in pixels; see :meth:`fit_sequence`."""
        return Pose.fit_sequence(np.asarray(landmarks_px)[None], reference)[0]

    @staticmethod
    def fit_sequence(landmarks_px: ArrayLike, reference: ArrayLike | None = None) -> Pose:
        """Weighted similarity between meshes and a face in face space, frame by frame, robust to moved points.

        Args:
            landmarks_px: ``[T, 478, 3]``, x and y in pixels, z in the same unit and away from the camera.
            reference: ``[478, 3]`` or ``[T, 478, 3]`` in face space; the canonical face by default.

        Returns:
            A pose with leading axis ``[T]``. Closed form after Umeyama (1991), eq. 40-42, re-weighted twice
            by Cauchy's weights at 3 % of the inter-ocular distance.
        """
        points = np.asarray(landmarks_px, np.float64)
        face = np.asarray(canonical() if reference is None else reference, np.float64)
        rigid = rigid_weights()
        chosen = rigid > 0
        camera, face = points[:, chosen] * _FLIP, np.broadcast_to(face, (len(points), 478, 3))[:, chosen]
        weights = np.broadcast_to(rigid[chosen], camera.shape[:2])
        for _ in range(3):
            rotation, scale, shift = _similarity(face, camera, weights)
            residual = (camera - shift[:, None]) / scale[:, None, None] @ rotation - face
            weights = rigid[chosen] / (1 + (residual**2).sum(-1) / 0.03**2)
        shift = shift * _FLIP
        return Pose(Rotation.from_matrix(rotation).as_rotvec(), shift[:, :2], scale, shift[:, 2])


def _similarity(
    source: NDArray[np.float64], target: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """``target ~ scale * rotation @ source + shift``; sources and targets ``[T, N, 3]``, weights ``[T, N]``."""
    w = (weights / weights.sum(1, keepdims=True))[..., None]
    source_mean, target_mean = (w * source).sum(1), (w * target).sum(1)
    a, b = source - source_mean[:, None], target - target_mean[:, None]
    u, s, vt = np.linalg.svd(np.swapaxes(w * b, 1, 2) @ a)
    sign = np.ones_like(s)
    sign[:, 2] = np.sign(np.linalg.det(u @ vt))
    rotation = u * sign[:, None] @ vt
    scale = (s * sign).sum(1) / (w * a**2).sum((1, 2))
    shift = target_mean - scale[:, None] * (rotation @ source_mean[..., None])[..., 0]
    return rotation, scale, shift
