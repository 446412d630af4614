"""USC's ICT-FaceKit head (MIT) registered to the MediaPipe mesh, and its expressions carried over."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

from magictalk.face.rig import LOWER_INNER_LIP, UPPER_INNER_LIP
from magictalk.motion import ARKIT

Array = NDArray[np.float64]

# iBUG's 68 landmarks that are points of the MediaPipe mesh too: brows, nose bridge, nostrils
MESH_POINTS = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300, 168, 197, 5, 4, 98, 97, 2, 326, 327)
POINTS = dict(zip(range(17, 36), MESH_POINTS, strict=True))
# curves: iBUG landmarks along them, MediaPipe points along them; both ends are landmarks
CURVES = (
    (range(0, 9), (127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152)),
    (range(16, 7, -1), (356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152)),
    ((36, 37, 38, 39), (33, 246, 161, 160, 159, 158, 157, 173, 133)),
    ((36, 41, 40, 39), (33, 7, 163, 144, 145, 153, 154, 155, 133)),
    ((45, 44, 43, 42), (263, 466, 388, 387, 386, 385, 384, 398, 362)),
    ((45, 46, 47, 42), (263, 249, 390, 373, 374, 380, 381, 382, 362)),
    ((48, 49, 50, 51), (61, 185, 40, 39, 37, 0)),
    ((54, 53, 52, 51), (291, 409, 270, 269, 267, 0)),
    ((48, 59, 58, 57), (61, 146, 91, 181, 84, 17)),
    ((54, 55, 56, 57), (291, 375, 321, 405, 314, 17)),
    ((60, 61, 62), UPPER_INNER_LIP[:6]),
    ((64, 63, 62), UPPER_INNER_LIP[:4:-1]),
    ((60, 67, 66), (UPPER_INNER_LIP[0], *LOWER_INNER_LIP[:5])),
    ((64, 65, 66), (UPPER_INNER_LIP[-1], *LOWER_INNER_LIP[:3:-1])),
)
UPPER_LIP = (183, 42, 41, 38, 12, 268, 271, 272, 407, 184, 74, 73, 72, 11, 302, 303, 304, 408)
LOWER_LIP = (96, 89, 179, 86, 15, 316, 403, 319, 325, 77, 90, 180, 85, 16, 315, 404, 320, 307)
SKIN = 14062  # vertices of the ICT mesh's head; teeth, tongue and eyes follow


def trace(vertices: Array, graph: coo_matrix, ends: list[int], fractions: Array) -> tuple[NDArray[np.int64], Array]:
    """Points at fractions of the length of a path along mesh edges: vertex pairs ``[N, 2]`` and their weights."""
    path = [ends[0]]
    for a, b in pairwise(ends):
        before = dijkstra(graph, directed=False, indices=a, return_predecessors=True)[1]
        part = [b]
        while part[-1] != a:
            part.append(before[part[-1]])
        path += part[-2::-1]
    nodes = np.array(path)
    length = np.concatenate([[0], np.linalg.norm(np.diff(vertices[nodes], axis=0), axis=1).cumsum()])
    at = fractions * length[-1]
    i = np.clip(np.searchsorted(length, at, side="right") - 1, 0, len(nodes) - 2)
    w = (at - length[i]) / (length[i + 1] - length[i])
    return np.stack([nodes[i], nodes[i + 1]], 1), np.stack([1 - w, w], 1)


def closest(point: Array, corners: Array) -> tuple[int, Array]:
    """The triangle of ``corners [N, 3, 3]`` nearest to a point, and the nearest point's barycentric weights."""
    best, at, weights = np.inf, 0, np.zeros(3)
    for n, (a, b, c) in enumerate(corners):
        system = np.stack([b - a, c - a], 1)
        u, v = np.linalg.lstsq(system, point - a, rcond=None)[0]
        if u < 0 or v < 0 or u + v > 1:  # outside: the nearest point is on an edge
            options = []
            for i, j in ((0, 1), (0, 2), (1, 2)):
                edge = corners[n, j] - corners[n, i]
                s = np.clip((point - corners[n, i]) @ edge / (edge @ edge + 1e-12), 0, 1)
                w = np.zeros(3)
                w[i], w[j] = 1 - s, s
                options.append(w)
            w = min(options, key=lambda o: np.linalg.norm(o @ corners[n] - point))
        else:
            w = np.array([1 - u - v, u, v])
        distance = float(np.linalg.norm(w @ corners[n] - point))
        if distance < best:
            best, at, weights = distance, n, w
    return at, weights


def register(mesh: dict[str, NDArray], landmarks: list[int], face: Array) -> tuple[NDArray[np.int64], Array, Array]:
    """Where each mesh point sits on the ICT head.

    Returns:
        Vertex indices ``[468, 3]``, their weights ``[468, 3]``, and the local scale ``[468]`` from ICT's
        centimetres to face space.
    """
    head = mesh["neutral"].astype(np.float64)[:SKIN]
    quads = mesh["faces"]
    triangles = np.concatenate([quads[:, :3], quads[quads[:, 3] >= 0][:, [0, 2, 3]]])
    triangles = triangles[(triangles < SKIN).all(1)]
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    lengths = np.linalg.norm(head[edges[:, 0]] - head[edges[:, 1]], axis=1)
    graph = coo_matrix((lengths, edges.T), shape=(SKIN, SKIN)).tocsr()
    jaw = mesh["deltas"][list(mesh["names"]).index("jawOpen")].astype(np.float64)[:SKIN, 1]
    drops = jaw < 0.5 * jaw[landmarks[66]]

    index, weight = np.zeros((468, 3), np.int64), np.zeros((468, 3))
    fixed = set()
    for marks, points in CURVES:
        steps = np.linalg.norm(np.diff(face[list(points)], axis=0), axis=1)
        fractions = np.concatenate([[0], steps.cumsum() / steps.sum()])
        pairs, w = trace(head, graph, [landmarks[m] for m in marks], fractions)
        index[list(points), :2], weight[list(points), :2] = pairs, w
        fixed |= set(points)
    for mark, point in POINTS.items():
        index[point], weight[point] = landmarks[mark], [1, 0, 0]
        fixed.add(point)

    def on_head(points: list[int]) -> Array:
        return np.einsum("nk,nkd->nd", weight[points], head[index[points]])

    known = sorted(fixed)
    warp = RBFInterpolator(on_head(known), face[known], kernel="thin_plate_spline", smoothing=1e-3)
    regions = {p: ~drops for p in UPPER_LIP} | {p: drops for p in LOWER_LIP}
    everywhere = np.ones(SKIN, bool)
    free = [p for p in range(468) if p not in fixed]
    for smoothing in (1e-2, 1e-3):
        moved = warp(head)
        corners = moved[triangles]
        outward = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2]
        for p in free:
            allowed = regions.get(p, everywhere)[triangles].all(1) & (np.abs(corners.mean(1) - face[p]).max(1) < 0.5)
            if face[p, 2] > -0.3:  # the front of the face: not the inside of mouth, nose or lids
                allowed &= outward > 0
            candidates = np.flatnonzero(allowed)
            near = candidates[np.argsort(np.linalg.norm(corners[candidates].mean(1) - face[p], axis=1))[:24]]
            n, w = closest(face[p], corners[near])
            index[p], weight[p] = triangles[near[n]], w
        warp = RBFInterpolator(
            on_head(list(range(468))), face[:468], kernel="thin_plate_spline", smoothing=smoothing, neighbors=None
        )
    at, step = on_head(list(range(468))), 0.1
    jacobian = np.stack([(warp(at + step * e) - warp(at - step * e)) / (2 * step) for e in np.eye(3)], -1)
    overall = np.cbrt(np.median(np.abs(np.linalg.det(jacobian))))
    scale = np.cbrt(np.abs(np.linalg.det(jacobian))).clip(0.85 * overall, 1.15 * overall)
    return index, weight, scale


def carry(mesh: dict[str, NDArray], index: NDArray[np.int64], weight: Array, scale: Array) -> Array:
    """ICT's expression deltas on the mesh, as ARKit's shapes in face space ``[52, 478, 3]``; what ICT lacks is zero."""
    names = list(mesh["names"])
    shapes = np.zeros((52, 478, 3))
    for k, name in enumerate(ARKIT):
        stem = name.removesuffix("Left").removesuffix("Right")
        side = [f"{stem}_{s}" for s in ("L", "R") if name in (stem, stem + {"L": "Left", "R": "Right"}[s])]
        for source in [name] if name in names else [s for s in side if s in names]:
            delta = mesh["deltas"][names.index(source)].astype(np.float64)
            shapes[k, :468] += np.einsum("nk,nkd->nd", weight, delta[index]) * scale[:, None]
    return shapes
