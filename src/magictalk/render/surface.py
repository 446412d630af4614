"""The portrait as a moving surface: the face mesh, and rings of vertices around it that carry hair, neck and air.

Vertices live in *camera space*: face space turned by the portrait's own head pose, so x and y are the picture's axes
(y up) in inter-ocular distances and z points at the viewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from magictalk.face.pose import CAMERA_DISTANCE
from magictalk.face.rig import LOWER_INNER_LIP, UPPER_INNER_LIP, Rig
from magictalk.motion import ARKIT
from magictalk.portrait import Portrait

# contour of each eye, outer corner first, along the upper lid and back along the lower
EYE_CONTOURS = (
    (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
    (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249),
)
# outline of the face in MediaPipe's mesh, clockwise from the middle of the forehead
OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
CHIN = 152

# distances of the rings from the face's outline, in inter-ocular distances
_LIP_EDGE, _UNDER_LIP = (181, 84, 17, 314, 405), 18
"""The lower lip's outer edge from the picture's left to its right, and the point under its middle."""
_JAW_OPEN = ARKIT.index("jawOpen")
_OPENING = [
    i for i, name in enumerate(ARKIT) if name.startswith(("jawOpen", "mouthLowerDown", "mouthUpperUp", "mouthFunnel"))
]
RINGS = (0.06, 0.14, 0.24, 0.36, 0.5, 0.68, 0.9, 1.2, 1.6, 2.1, 2.8)
SKULL_DEPTH = -1.25
"""z of the widest part of the head in face space: its outline stays put while the face turns."""


def smoothstep(low: float, high: float, x: ArrayLike) -> Any:
    """Cubic ramp from 0 at ``low`` to 1 at ``high``."""
    t = np.clip((np.asarray(x, np.float32) - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


# the skin side of the upper lids' edges: lashes and liner there keep their width when the lid is drawn down
UPPER_LIDS = (246, 161, 160, 159, 158, 157, 173, 466, 388, 387, 386, 385, 384, 398)
_LASHES = 0.45
"""Share of the way from a lid's edge to the next vertex that moves as one with the edge."""
_STEEPEST = 1.8
"""Slope of z that a turn of 20 degrees does not fold over (1 / sin 20 is 2.9)."""


def _split_lids(
    face: NDArray[np.float64], triangles: NDArray[np.int32], first: int
) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.int32]]:
    """Cut a strip off the skin along the upper lids' edges.

    Returns:
        New vertices ``[n, 3]`` (numbered from ``first``), all triangles, and the lid vertex each new one follows.
    """
    lids, eyes = set(UPPER_LIDS), {i for eye in EYE_CONTOURS for i in eye}
    new: dict[tuple[int, int], int] = {}
    points: list[NDArray[np.float64]] = []
    follows: list[int] = []

    def cut(lid: int, skin: int) -> int:
        if (lid, skin) not in new:
            new[lid, skin] = first + len(points)
            points.append(face[lid] + _LASHES * (face[skin] - face[lid]))
            follows.append(lid)
        return new[lid, skin]

    result: list[tuple[int, int, int]] = []
    for triangle in triangles.tolist():
        on_lid = [v in lids for v in triangle]
        if not any(on_lid) or all(v in eyes for v in triangle) or all(on_lid):
            result.append(tuple(triangle))
            continue
        while not (on_lid[0] and not on_lid[2]):  # turn it so that a lid vertex comes first, a skin vertex last
            triangle, on_lid = triangle[1:] + triangle[:1], on_lid[1:] + on_lid[:1]
        a, b, c = triangle
        if on_lid[1]:
            ac, bc = cut(a, c), cut(b, c)
            result += [(a, b, bc), (a, bc, ac), (ac, bc, c)]
        else:
            ab, ac = cut(a, b), cut(a, c)
            result += [(a, ab, ac), (ab, b, c), (ab, c, ac)]
    return np.array(points), np.array(result, np.int32), np.array(follows, np.int32)


def _closing(neutral: NDArray[np.float32], jaw_open: NDArray[np.float32]) -> NDArray[np.float64]:
    """Displacement ``[478, 3]`` that makes the inner lips of a face at rest just meet, face space.

    A mouth wider open than the rig reaches closes by the jaw; the last bit by the lips, fading over them.
    """
    upper, lower = list(UPPER_INNER_LIP[1:-1]), list(LOWER_INNER_LIP)
    gap, per_jaw = (float((p[upper, 1] - p[lower, 1]).mean()) for p in (neutral, jaw_open))
    close = -max(0.0, gap - 0.04) / per_jaw * jaw_open.astype(np.float64)
    face = neutral + close
    half = (face[lower] - face[upper]) / 2
    half[:, [0, 2]] = 0
    middle = face[[13, 14], 1].mean()
    for points, step, side in ((upper, half, face[:, 1] > middle), (lower, -half, face[:, 1] <= middle)):
        apart = np.linalg.norm(face[:, None, :2] - face[None, points, :2], axis=-1)
        near = np.exp(-0.5 * (apart / 0.08) ** 2)
        spread = side[:, None] * near.max(1, keepdims=True) * (near @ step) / (near.sum(1, keepdims=True) + 1e-9)
        spread[points] = step
        close += spread
    return close


def _unfolding(shown: NDArray[np.float64], neutral: NDArray[np.float32]) -> NDArray[np.float64]:
    """Displacement ``[478, 3]`` that lays the chin of a wide open mouth out below the lower lip, face space.

    There the mesh folds the lip over the chin, and the chin would take its pixels from the lip.
    """
    result = np.zeros(shown.shape)
    fold = float(smoothstep(-0.05, 0.03, shown[_UNDER_LIP, 1] - shown[_LIP_EDGE[2], 1]))
    if fold == 0:
        return result
    edge, rest = (np.interp(p[:, 0], p[list(_LIP_EDGE), 0], p[list(_LIP_EDGE), 1]) for p in (shown, neutral))
    way = (rest - neutral[:, 1]) / (rest - neutral[CHIN, 1])  # 0 at the lip's edge, 1 at the chin
    target = edge - way * (edge - shown[CHIN, 1])
    reach = (way > 0) * (way < 1) * (1 - smoothstep(0.15, 0.5, np.abs(neutral[:, 0])))
    result[:, 1] = fold * reach * np.minimum(0.0, target - shown[:, 1])
    return result


def _limit_slope(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """z ``[N]``, raised where the surface falls away so steeply that a turn of the head would fold it over."""
    apart = np.linalg.norm(points[:, None, :2] - points[None, :, :2], axis=-1)
    return (points[None, :, 2] - _STEEPEST * apart).max(1)


@dataclass(frozen=True)
class Frame:
    """Where everything is in one output frame.

    Attributes:
        vertices: float32 ``[N, 2]`` picture pixels of every surface vertex (the first 478 are the face mesh).
        depth: float32 ``[N]`` toward the viewer.
        head: float64 ``[3, 4]`` affine map of camera space by the head motion alone.
    """

    vertices: NDArray[np.float32]
    depth: NDArray[np.float32]
    head: NDArray[np.float64]


class Surface:
    """Face mesh and rings of one portrait at one output size.

    Args:
        portrait: whose picture it is.
        scale: output pixels per picture pixel.
        size: output ``(width, height)``.
        presence: float32 ``[h, w]`` in 0..1, how much each part of the picture is the person (any resolution).
        rig: the blendshapes, fitted to this face.
    """

    def __init__(
        self,
        portrait: Portrait,
        scale: float,
        size: tuple[int, int],
        presence: NDArray[np.float32],
        rig: Rig,
    ) -> None:
        self.origin_px = np.asarray(portrait.pose.origin_px, np.float64) * scale
        self.scale_px = float(portrait.pose.scale_px) * scale
        self.turn = Rotation.from_rotvec(portrait.pose.rotation).as_matrix()
        shown = portrait.pose.to_face(portrait.landmarks)
        unfold = _unfolding(shown, portrait.neutral)
        face = (shown + unfold) @ self.turn.T
        self.own = np.asarray(portrait.coefficients, np.float32)
        close = _closing(portrait.neutral, rig.shapes[_JAW_OPEN]) - unfold
        self._close = (close @ self.turn.T).astype(np.float32)
        self._shapes = (rig.shapes @ self.turn.T.astype(np.float32)).reshape(len(rig.shapes), -1)
        self.faces = len(face)

        rings, ring_triangles, follows, fade = self._build_rings(face)
        lashes, face_triangles, lash_follows = _split_lids(face, rig.triangles, self.faces + len(rings))
        self.rest = np.concatenate([face, rings, lashes])  # [N, 3] camera space
        self.triangles = np.concatenate([ring_triangles, face_triangles]).astype(np.int32)
        self._follows = np.concatenate([follows, lash_follows])
        self._fade = np.concatenate([fade, np.ones(len(lashes), np.float32)])
        self._last_ring = slice(self.faces + len(rings) - len(OVAL), self.faces + len(rings))
        self.rest[:, 2] = _limit_slope(self.rest)
        self.source = self.project(self.rest)
        self.weight = self._weigh(size, presence)

    def _build_rings(
        self, face: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
        """Vertices around the outline, their triangles, the outline vertex each follows and how much."""
        outline = face[list(OVAL)]
        centre = outline[:, :2].mean(0)
        outward = outline[:, :2] - centre
        outward /= np.linalg.norm(outward, axis=1, keepdims=True)
        # neighbours share directions, else the rings of a turned face cross
        for _ in range(3):
            outward = (np.roll(outward, 1, 0) + 2 * outward + np.roll(outward, -1, 0)) / 4
            outward /= np.linalg.norm(outward, axis=1, keepdims=True)
        skull_z = float((self.turn @ [0, 0, SKULL_DEPTH])[2])
        rings, follows, fade = [], [], []
        for distance in RINGS:
            bend = smoothstep(-0.1, 0.7, distance)
            z = outline[:, 2] * (1 - bend) + skull_z * bend
            rings.append(np.column_stack([outline[:, :2] + outward * distance, z]))
            follows.append(np.array(OVAL))
            fade.append(np.full(len(OVAL), 1 - smoothstep(0.0, 1.4, distance), np.float32))
        n = len(OVAL)
        index = np.concatenate([[np.array(OVAL)], self.faces + np.arange(len(RINGS) * n).reshape(len(RINGS), n)])
        a, b = index[:-1], index[1:]
        a2, b2 = np.roll(a, -1, 1), np.roll(b, -1, 1)
        triangles = np.concatenate([np.stack([a, b, b2], -1).reshape(-1, 3), np.stack([a, b2, a2], -1).reshape(-1, 3)])
        return np.concatenate(rings), triangles.astype(np.int32), np.concatenate(follows), np.concatenate(fade)

    def _weigh(self, size: tuple[int, int], presence: NDArray[np.float32]) -> NDArray[np.float32]:
        """How much of the head's motion each vertex takes part in, ``[N]`` in 0..1.

        1 on the head; down the neck it fades to 0 at the shoulders; off the head it fades within about one
        inter-ocular distance, and at the picture's borders, so that nothing tears.
        """
        cell = self.scale_px / 16  # one map pixel is a sixteenth of an inter-ocular distance
        width, height = (max(8, int(np.ceil(s / cell))) for s in size)
        x, y = np.meshgrid((np.arange(width) + 0.5) * cell, (np.arange(height) + 0.5) * cell)
        points = np.stack([(x - self.origin_px[0]), -(y - self.origin_px[1])], -1) / self.scale_px
        up = self.turn[:2, 1] / max(1e-6, float(np.linalg.norm(self.turn[:2, 1])))
        outline = self.rest[list(OVAL), :2]
        centre, above = outline.mean(0), (points - self.rest[CHIN, :2]) @ up
        radius = np.abs(outline - centre).max(0) * 1.2
        skull = (((points - centre - 0.25 * up) / radius) ** 2).sum(-1) < 1
        person = cv2.resize(presence, (width, height), interpolation=cv2.INTER_AREA) > 0.5
        side = np.abs((points - centre) @ [up[1], -up[0]])
        head = (person & (above > -0.6) & (side < 2.2)) | (person & (side < 1.3)) | skull
        away = cv2.distanceTransform((~head).astype(np.uint8), cv2.DIST_L2, 5) / 16
        border = np.minimum(np.minimum(x, size[0] - x), np.minimum(y, size[1] - y)) / self.scale_px
        weight = (1 - smoothstep(0.0, 0.7, away)) * smoothstep(-1.7, -0.1, above) * smoothstep(0.0, 0.4, border)
        weight = cv2.GaussianBlur(weight.astype(np.float32), (0, 0), 2.0)
        at = (self.source / cell - 0.5).astype(np.float32)
        sampled = cv2.remap(weight, at[None], None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)[0]
        sampled[self._last_ring] = 0  # the last ring is the edge of the world
        return sampled.astype(np.float32)

    def project(self, points: NDArray[np.float64]) -> NDArray[np.float32]:
        """Camera space ``[..., 3]`` to output pixels ``[..., 2]``."""
        return (self.origin_px + self.scale_px * points[..., :2] * [1, -1]).astype(np.float32)

    def displace(self, coefficients: NDArray[np.float32]) -> NDArray[np.float32]:
        """Camera-space displacement ``[478, 3]`` of the face mesh from the picture's own expression to this one."""
        # an open mouth that the coefficients did not explain whole closes with those that they did
        own = self.own[_OPENING]
        kept = float(np.clip(coefficients[_OPENING] @ own / max(1e-6, float(own @ own)), 0, 1))
        return ((coefficients - self.own) @ self._shapes).reshape(-1, 3) + (1 - kept) * self._close

    def pose(self, coefficients: NDArray[np.float32], head: NDArray[np.float32]) -> Frame:
        """The surface for one frame of motion: coefficients ``[52]`` and relative head pose ``[6]``."""
        move = self.displace(coefficients)
        points = self.rest.copy()
        points[: self.faces] += move
        points[self.faces :] += move[self._follows] * self._fade[:, None]
        rotation = Rotation.from_rotvec(head[:3]).as_matrix()
        zoom = CAMERA_DISTANCE / (CAMERA_DISTANCE - float(np.clip(head[5], -5, 5)))
        affine = np.concatenate([zoom * rotation, np.append(head[3:5], 0.0)[:, None]], 1)
        moved = points @ affine[:, :3].T + affine[:, 3]
        pixels, still = self.project(moved), self.project(points)
        vertices = still + self.weight[:, None] * (pixels - still)
        return Frame(vertices.astype(np.float32), moved[:, 2].astype(np.float32), affine)

    def carry(self, frame: Frame, points: NDArray[np.float64]) -> NDArray[np.float32]:
        """Output pixels of camera-space points that move with the skull alone, ``[..., 3] -> [..., 2]``."""
        return self.project(points @ frame.head[:, :3].T + frame.head[:, 3])
