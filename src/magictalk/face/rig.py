"""The ARKit-52 blendshape basis on the MediaPipe mesh, forward and inverse, in face space.

Forward: ``neutral + coefficients @ shapes``. Inverse: head pose, the face at rest and bounded coefficients from
tracked meshes. Built by ``recipes/rig.py``; the card beside the weights names its sources.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.resources import files

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.fft import dct, idct

from magictalk.errors import MotionError
from magictalk.face.pose import Pose, normalise

Array = NDArray[np.float64]

UPPER_INNER_LIP = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
"""The inner edge of the upper lip from the picture's left to its right; both ends are the mouth's corners."""
LOWER_INNER_LIP = (95, 88, 178, 87, 14, 317, 402, 318, 324)
"""The inner edge of the lower lip, without corners: each point under one of ``UPPER_INNER_LIP[1:-1]``."""
UPPER_OUTER_LIP = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
LOWER_OUTER_LIP = (146, 91, 181, 84, 17, 314, 405, 321, 375)
UPPER_LIDS = ((246, 161, 160, 159, 158, 157, 173), (466, 388, 387, 386, 385, 384, 398))
"""Edges of the upper lids, outer to inner corner: the person's right eye (picture's left), then the left."""
LOWER_LIDS = ((7, 163, 144, 145, 153, 154, 155), (249, 390, 373, 374, 380, 381, 382))
"""Edges of the lower lids, each point under one of ``UPPER_LIDS``."""
IRISES = (tuple(range(468, 473)), tuple(range(473, 478)))
"""Irises, centre first, then right, top, left and bottom in the picture: the person's right eye, then the left."""
BROWS = (70, 63, 105, 66, 107, 46, 53, 52, 65, 55, 300, 293, 334, 296, 336, 276, 283, 282, 295, 285)
LIPS = (
    *UPPER_INNER_LIP, *LOWER_INNER_LIP, *UPPER_OUTER_LIP, *LOWER_OUTER_LIP,
    62, 76, 292, 306, 183, 42, 41, 38, 12, 268, 271, 272, 407, 184, 74, 73, 72, 11, 302, 303, 304, 408,
    96, 89, 179, 86, 15, 316, 403, 319, 325, 77, 90, 180, 85, 16, 315, 404, 320, 307,
)  # fmt: skip
LIDS = (33, 133, 263, 362, *UPPER_LIDS[0], *UPPER_LIDS[1], *LOWER_LIDS[0], *LOWER_LIDS[1])

L1, L2, SMOOTH = 2e-3, 1e-2, 0.01
"""Costs of a fit: on coefficients, on their squares, on squared steps between frames."""
NOISE = 0.3
"""Weighted misfit, in inter-ocular units, that is as likely as one standard deviation of identity."""
SEAM = 25.0
"""Weight of the differences across lips and lids, beside 6 to 20 of their points."""
LID_REST = 0.15
"""Opening, in parts of the eye's at rest, that MediaPipe's lids keep in a full blink."""
CHUNK = 1000
"""Frames of a video fitted at once."""
ROUNDS = 8
"""Alternations between identity and expression."""

_EYE_BLINK_RIGHT, _EYE_BLINK_LEFT, _JAW_OPEN, _MOUTH_CLOSE = 7, 0, 17, 18  # places in ARKIT
_GAZE = (1, 2, 3, 4, 8, 9, 10, 11)  # eyeLook, the person's left eye first


def inner_lip_gap(points: ArrayLike) -> Array:
    """Distance between the middles of the inner lips (points 13 and 14) of ``[..., 478, 3]``: ``[...]``."""
    points = np.asarray(points, np.float64)
    return np.linalg.norm(points[..., 13, :] - points[..., 14, :], axis=-1)


def mouth_width(points: ArrayLike) -> Array:
    """Distance between the corners of the mouth (points 61 and 291) of ``[..., 478, 3]``: ``[...]``."""
    points = np.asarray(points, np.float64)
    return np.linalg.norm(points[..., 61, :] - points[..., 291, :], axis=-1)


def jaw_drop(points: ArrayLike) -> Array:
    """Distance between nose tip and chin (points 1 and 152) of ``[..., 478, 3]``: ``[...]``."""
    points = np.asarray(points, np.float64)
    return np.linalg.norm(points[..., 1, :] - points[..., 152, :], axis=-1)


def point_weights() -> Array:
    """How much each coordinate counts in fits, ``[478, 3]``: lips and lids most, depth least (it is guessed)."""
    weights = np.ones(478)
    weights[[10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176,
             149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109]] = 0.3  # fmt: skip
    weights[[152, 148, 377, 175, 199, 200]] = 4.0
    weights[list(BROWS)] = 3.0
    weights[list(LIPS)] = 6.0
    weights[list(LIDS)] = 20.0
    weights[468:] = 1.0  # gaze has a fit of its own
    return weights[:, None] * [1.0, 1.0, 0.15]


def _weigh(field: ArrayLike) -> Array:
    """Displacements ``[..., 478, 3]`` as rows whose plain squares a fit sums ``[..., 1515]``.

    Beside each weighted coordinate stand the differences across lips and lids: whether they meet is seen at once,
    so it counts by itself.
    """
    field = np.asarray(field, np.float64)
    upper = [*UPPER_INNER_LIP[1:-1], *UPPER_LIDS[0], *UPPER_LIDS[1]]
    lower = [*LOWER_INNER_LIP, *LOWER_LIDS[0], *LOWER_LIDS[1]]
    seams = (field[..., upper, :] - field[..., lower, :]) * np.sqrt(SEAM) * [1.0, 1.0, np.sqrt(0.15)]
    return np.concatenate([field * np.sqrt(point_weights()), seams], -2).reshape(*field.shape[:-2], -1)


def lids_closed(blink: ArrayLike) -> NDArray[np.float32]:
    """How far lids are closed, 0..1, where a fit to MediaPipe's mesh says ``eyeBlink`` is ``blink``.

    Its lids follow late: in real footage an eye is half closed at 0.3 and shut from about 0.7 on. Whoever draws what
    was fitted, or learnt from fits, wants this.
    """
    return np.interp(np.asarray(blink, np.float64), (0, 0.1, 0.3, 0.5, 0.7), (0, 0.1, 0.5, 0.8, 1)).astype(np.float32)


@dataclass(frozen=True)
class PortraitFit:
    """What one mesh says about a face.

    Attributes:
        pose: where the head is.
        coefficients: float32 ``[52]``, the expression.
        neutral: float32 ``[478, 3]``, the face at rest in face space; with the coefficients' shapes of
            ``Rig.for_face(neutral)`` on top it gives the mesh back exactly.
    """

    pose: Pose
    coefficients: NDArray[np.float32]
    neutral: NDArray[np.float32]


@dataclass(frozen=True)
class VideoFit:
    """What the meshes of a video say: ``pose`` with leading axis ``[T]``, ``coefficients [T, 52]``, ``neutral``."""

    pose: Pose
    coefficients: NDArray[np.float32]
    neutral: NDArray[np.float32]


@dataclass(frozen=True)
class Rig:
    """A face that ARKit's coefficients move.

    Attributes:
        neutral: float32 ``[478, 3]``, the mean face at rest, in face space.
        shapes: float32 ``[52, 478, 3]``, displacement at coefficient 1, in ``motion.ARKIT`` order.
        triangles: int32 ``[F, 3]``, MediaPipe's canonical triangles (irises have none).
        identity: float32 ``[K, 478, 3]``, how people's neutral faces differ, one standard deviation each.
    """

    neutral: NDArray[np.float32]
    shapes: NDArray[np.float32]
    triangles: NDArray[np.int32]
    identity: NDArray[np.float32]

    @staticmethod
    def load() -> Rig:
        """The rig that ships with the package."""
        from safetensors.numpy import load_file

        data = load_file(str(files("magictalk") / "assets" / "rig" / "rig.safetensors"))
        shapes, identity = data["shapes"].astype(np.float32), data["identity"].astype(np.float32)
        return Rig(data["neutral"], shapes, data["triangles"], identity)

    def vertices(self, coefficients: ArrayLike, neutral: ArrayLike | None = None) -> NDArray[np.float32]:
        """Mesh in face space ``[..., 478, 3]`` from coefficients ``[..., 52]``, on the rig's or another neutral."""
        base = self.neutral if neutral is None else np.asarray(neutral, np.float32)
        return base + np.tensordot(np.asarray(coefficients, np.float32), self.shapes, 1)

    def for_face(self, neutral: ArrayLike) -> Rig:
        """The rig of one person: ``neutral`` is theirs, and what closes closes on their own lids and lips.

        ``eyeBlink`` at 1 brings each upper lid point onto the lower lid's; ``jawOpen`` and ``mouthClose`` both
        at 1 bring the inner lips together, whatever the eyes' and mouth's size at rest.
        """
        face, shapes = np.asarray(neutral, np.float64), self.shapes.astype(np.float64)
        for blink, upper, lower in zip((_EYE_BLINK_RIGHT, _EYE_BLINK_LEFT), UPPER_LIDS, LOWER_LIDS, strict=True):
            moved = face + shapes[blink]
            short = moved[list(lower)] - moved[list(upper)]
            shapes[blink] += _spread(face, upper, short, still=lower, reach=0.07)
        lips, under = UPPER_INNER_LIP[1:-1], LOWER_INNER_LIP
        moved = face + shapes[_JAW_OPEN] + shapes[_MOUTH_CLOSE]
        half = (moved[list(under)] - moved[list(lips)]) / 2
        shapes[_MOUTH_CLOSE] += _spread(face, lips + under, np.concatenate([half, -half]), still=(), reach=0.06)
        return replace(self, neutral=face.astype(np.float32), shapes=shapes.astype(np.float32))

    def fit(self, points: ArrayLike, neutral: ArrayLike | None = None, smooth: float = SMOOTH) -> NDArray[np.float32]:
        """Coefficients 0..1 ``[T, 52]`` that bring the neutral nearest to face-space meshes ``[T, 478, 3]``.

        Bounded least squares with small L1 and L2 costs on the coefficients and ``smooth`` on the squared step
        between frames, solved for all frames at once by ADMM (Boyd et al. 2011, section 5.2): the quadratic
        step is exact in the eigenbases of the shapes' products and of the frames' path (a cosine transform).
        The neutral is the rig's by default. Gaze is read off the irises first.
        """
        return self._fit(np.asarray(points, np.float64), self.neutral if neutral is None else neutral, smooth, False)

    def _fit(self, points: Array, neutral: ArrayLike, smooth: float, unsure: bool) -> NDArray[np.float32]:
        """:meth:`fit`; when ``unsure``, the neutral may also be off along the identity basis (Woodbury's identity)."""
        base = np.asarray(neutral, np.float64)
        gaze = self._fit_gaze(points - base, _openings(points, base))
        shapes, offset = _weigh(self.shapes), _weigh(points - base - np.tensordot(gaze, self.shapes, 1))
        products, pull = shapes @ shapes.T, offset @ shapes.T
        if unsure:
            basis = _weigh(self.identity)
            cross = basis @ shapes.T
            solved = np.linalg.solve(basis @ basis.T + NOISE**2 * np.eye(len(basis)), cross)
            products, pull = products - cross.T @ solved, pull - offset @ basis.T @ solved
        # measure coefficients so that one cost suits all: a shape twice as large costs twice as much to use
        energy = (shapes**2).sum(1)
        unit, size = (energy / energy.mean()) ** 0.25, energy.mean()
        most = np.where(np.isin(np.arange(52), _GAZE), 0.0, unit)
        found = _bounded(products / np.outer(unit, unit) / size, pull / unit / size, most, L1, L2, smooth)
        return (gaze + found / unit).astype(np.float32)

    def _fit_gaze(self, offset: Array, openings: Array) -> Array:
        """The eyeLook coefficients ``[T, 52]`` from the irises alone, whose ``offset [T, 478, 3]`` from rest they are.

        The mesh network moves an iris that a lid hides down with the lid, which is not a glance: where an eye is
        less than half open, its gaze is that of the nearest frame in which it is open, or straight ahead.
        """
        gaze = np.zeros((len(offset), 52))
        for eye, (iris, columns) in enumerate(zip(IRISES, (_GAZE[4:], _GAZE[:4]), strict=True)):
            moved = offset[:, iris, :2].mean(1)
            seen = np.flatnonzero(openings[:, eye] > 0.5)
            if len(seen):
                after = seen[np.searchsorted(seen, np.arange(len(moved))).clip(max=len(seen) - 1)]
                before = seen[(np.searchsorted(seen, np.arange(len(moved)), side="right") - 1).clip(0)]
                frame = np.arange(len(moved))
                moved = moved[np.where(np.abs(frame - before) <= np.abs(after - frame), before, after)]
            else:
                moved = np.zeros_like(moved)
            for column in columns:
                full = self.shapes[column, iris, :2].mean(0)
                axis = int(np.argmax(np.abs(full)))
                gaze[:, column] = np.clip(moved[:, axis] / full[axis], 0, 1)
        return gaze

    def fit_portrait(self, landmarks_px: ArrayLike) -> PortraitFit:
        """Pose, expression and face at rest of one mesh ``[478, 3]`` in pixels."""
        landmarks = np.asarray(landmarks_px, np.float64)[None]
        pose, coefficients, neutral = self._separate(landmarks)
        points = pose.to_face(landmarks)[0]
        for _ in range(4):  # the person's own closing shapes depend on the neutral that they leave over
            neutral = points - np.tensordot(coefficients[0], self.for_face(neutral).shapes, 1)
        return PortraitFit(pose[0], coefficients[0], neutral.astype(np.float32))

    def fit_video(self, landmarks_px: ArrayLike, smooth: float = 0.02) -> VideoFit:
        """Head poses, coefficients and the person's face at rest from tracked meshes ``[T, 478, 3]`` in pixels.

        Frames without a face (NaN) take their values from the frames around them.

        Raises:
            MotionError: when no frame shows a face.
        """
        landmarks = fill_gaps(np.asarray(landmarks_px))
        neutral = self._separate(landmarks[:: max(1, len(landmarks) // 80)].astype(np.float64))[2]
        own = self.for_face(neutral)
        poses, coefficients = [], []
        for start in range(0, len(landmarks), CHUNK):  # in parts, whose ends know a second of their neighbours
            first = max(0, start - 25)
            part = landmarks[first : start + CHUNK + 25].astype(np.float64)
            kept = slice(start - first, start - first + CHUNK)
            pose = Pose.fit_sequence(part, neutral)
            for _ in range(2):
                fitted = own.fit(pose.to_face(part), smooth=smooth)
                pose = Pose.fit_sequence(part, own.vertices(fitted))
            poses.append(pose[kept])
            coefficients.append(own._shut_eyes(fitted, pose.to_face(part))[kept])
        return VideoFit(Pose.join(poses), np.concatenate(coefficients), own.neutral)

    def _shut_eyes(self, coefficients: NDArray[np.float32], points: Array) -> NDArray[np.float32]:
        """Blinks that close: the mesh network's lids stop short of each other, so an eye ``LID_REST`` open is shut.

        ``eyeBlink`` at 1 closes the rest opening exactly, so what the opening lacks is what the coefficient lacks.
        """
        neutral = self.neutral.astype(np.float64)
        wanted = _openings(points, neutral)
        lack = _openings(self.vertices(coefficients).astype(np.float64), neutral) - (wanted - LID_REST) / (1 - LID_REST)
        blinks = [_EYE_BLINK_RIGHT, _EYE_BLINK_LEFT]
        closing = np.clip((0.6 - wanted) / 0.3, 0, 1)
        coefficients = coefficients.copy()
        coefficients[:, blinks] = np.clip(coefficients[:, blinks] + closing * lack, 0, 1)
        return coefficients

    def _separate(self, landmarks: Array) -> tuple[Pose, NDArray[np.float32], Array]:
        """Tell identity from expression in meshes ``[N, 478, 3]`` of one person: alternate both fits.

        Identity is a ridge fit of the identity basis to what expression leaves over in the median frame;
        what neither explains is the person's own and joins the neutral at the end.
        """
        basis = _weigh(self.identity)
        solve = np.linalg.solve(basis @ basis.T + NOISE**2 / len(landmarks) * np.eye(len(basis)), basis)
        neutral, rig = self.neutral.astype(np.float64), self
        pose = Pose.fit_sequence(landmarks, neutral)
        for step in range(ROUNDS):
            points = pose.to_face(landmarks)
            coefficients = rig._fit(points, neutral, 0.0, unsure=step < ROUNDS // 2)
            rest = np.median(points - np.tensordot(coefficients, rig.shapes, 1), 0)
            if step < ROUNDS - 1:
                rest = self.neutral + np.tensordot(_weigh(rest - self.neutral) @ solve.T, self.identity, 1)
            neutral = normalise(rest)
            rig = self.for_face(neutral)
            pose = Pose.fit_sequence(landmarks, rig.vertices(coefficients))
        return pose, coefficients, neutral


def fill_gaps(landmarks: Array) -> Array:
    """Meshes ``[T, ...]`` with frames that hold NaN replaced by linear interpolation between their neighbours.

    Raises:
        MotionError: when every frame holds NaN.
    """
    seen = np.isfinite(landmarks).all(axis=tuple(range(1, landmarks.ndim)))
    if not seen.any():
        raise MotionError(f"no face in any of {len(landmarks)} frames; expected a video that shows one")
    if seen.all():
        return landmarks
    known = np.flatnonzero(seen)
    at = np.interp(np.arange(len(landmarks)), known, np.arange(len(known)))
    low = np.floor(at).astype(int)
    high, part = np.minimum(low + 1, len(known) - 1), (at - low).reshape(-1, *[1] * (landmarks.ndim - 1))
    return (1 - part) * landmarks[known[low]] + part * landmarks[known[high]]


def _openings(points: Array, neutral: Array) -> Array:
    """How far each eye is open, ``[T, 2]``, in parts of its opening at rest."""

    def gaps(face: Array) -> Array:
        pairs = zip(UPPER_LIDS, LOWER_LIDS, strict=True)
        return np.stack([(face[..., u[1:6], 1] - face[..., d[1:6], 1]).mean(-1) for u, d in pairs], -1)

    return gaps(points) / np.maximum(gaps(neutral), 1e-3)


def _spread(face: Array, points: tuple[int, ...], change: Array, still: tuple[int, ...], reach: float) -> Array:
    """A displacement field ``[478, 3]`` that is ``change`` at ``points``, zero at ``still``, and fades around them."""
    distance = np.linalg.norm(face[:468, None] - face[list(points)], axis=-1)
    near = np.exp(-0.5 * ((distance**2 - distance.min(1, keepdims=True) ** 2) / (0.5 * reach) ** 2))
    field = np.zeros((478, 3))
    field[:468] = near @ change / near.sum(1, keepdims=True) * np.exp(-0.5 * (distance.min(1) / reach) ** 2)[:, None]
    field[list(points)] = change
    field[list(still)] = 0
    return field


def _bounded(products: Array, pull: Array, most: Array, l1: float, l2: float, smooth: float, steps: int = 80) -> Array:
    """The ``c [T, n]``, 0 to ``most``, least in ``c'Pc/2 - pull c + l1 c + l2 |c|^2/2 + smooth |c_t - c_t-1|^2/2``."""
    values, vectors = np.linalg.eigh(products)
    frames = len(pull)
    path = 2 - 2 * np.cos(np.pi * np.arange(frames) / frames)  # eigenvalues of the path's Laplacian
    rho = 0.1
    inverse = 1 / (values + l2 + smooth * path[:, None] + rho)
    target = (pull - l1) @ vectors
    kept, dual = np.zeros_like(pull), np.zeros_like(pull)
    for _ in range(steps):
        right = target + rho * ((kept - dual) @ vectors)
        if smooth > 0:
            right = idct(dct(right, axis=0, norm="ortho") * inverse, axis=0, norm="ortho")
        step = (right if smooth > 0 else right * inverse) @ vectors.T
        step = 1.6 * step - 0.6 * kept
        kept = np.clip(step + dual, 0, most)
        dual += step - kept
    return kept
