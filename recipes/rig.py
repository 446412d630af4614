"""Build the rig: ICT-FaceKit's expressions carried to the MediaPipe mesh, then refined on real videos.

    python recipes/rig.py --data ../shared/data --tracks TRACKS

``TRACKS`` holds one ``<video name>.npz`` a video with ``landmarks`` [T, 478, 3] (x and y in pixels, z in the same
unit and away from the camera, NaN where no face was seen) and ``teacher`` [T, 52] (MediaPipe's own blendshapes: a
first one named neutral, then browDownLeft to noseSneerRight in the alphabet's order).
Writes ``src/magictalk/assets/rig/rig.safetensors``. Stages: the mean neutral face of the train videos; registration
of the ICT head to it; expression deltas carried over; what ICT lacks authored; refinement; the identity basis.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from scipy.interpolate import RBFInterpolator
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from magictalk.face.pose import EYE_CORNERS, Pose, normalise
from magictalk.face.rig import LOWER_INNER_LIP, UPPER_INNER_LIP, Rig
from magictalk.motion import ARKIT

Array = NDArray[np.float64]

# iBUG's 68 landmarks that are points of the MediaPipe mesh too: brows, nose bridge, nostrils
POINTS = dict(zip(range(17, 36), (70, 63, 105, 66, 107, 336, 296, 334, 293, 300, 168, 197, 5, 4, 98, 97, 2, 326, 327), strict=True))
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
SHUT = tuple(
    n for n in ARKIT
    if n.startswith(("jaw", "mouth", "cheek")) and not n.startswith(
        ("jawOpen", "mouthClose", "mouthFunnel", "mouthLowerDown", "mouthUpperUp")
    )
)  # fmt: skip
RARE = ("nose", "cheek", "jawForward", "eyeSquint", "eyeWide", "eyeLookUp")  # seldom seen in talking: held harder
RIM = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150,
       136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)  # fmt: skip
CHIN = (152, 148, 377, 176, 400, 149, 378)
SKIN = 14062  # vertices of the ICT mesh's head; teeth, tongue and eyes follow
IRIS_RADIUS, EYEBALL_RADIUS, LOOK = 0.088, 0.19, np.radians(30)


@dataclass
class Clip:
    """One video's frames in which a face was seen."""

    name: str
    identity: str
    landmarks: Array
    teacher: Array


def load_clips(data: Path, tracks: Path, split: str) -> list[Clip]:
    """The videos of a split that have tracks."""
    clips = []
    with (data / "manifest.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["kind"] == "video" and r["split"] == split]
    for row in rows:
        path = tracks / (Path(row["file"]).name + ".npz")
        if path.is_file():
            with np.load(path) as track:
                seen = np.isfinite(track["landmarks"][:, 0, 0]) & np.isfinite(track["teacher"][:, 0])
                landmarks, teacher = track["landmarks"][seen].astype(np.float64), track["teacher"][seen]
            if len(landmarks) >= 25:
                clips.append(Clip(path.stem, row["identity"], landmarks, teacher))
    return clips


def mirror_index(canonical: Array) -> NDArray[np.int64]:
    """Which point lies opposite each point of the symmetric canonical face."""
    index = cKDTree(canonical[:468]).query(canonical[:468] * [-1, 1, 1])[1]
    irises = [473, 476, 475, 474, 477], [468, 471, 470, 469, 472]
    return np.concatenate([index, *irises])


def read_canonical(path: Path) -> tuple[Array, NDArray[np.int32]]:
    """MediaPipe's canonical face with irises added, in face space ``[478, 3]``, and its triangles."""
    lines = path.read_text().splitlines()
    points = normalise([[float(v) for v in s.split()[1:4]] for s in lines if s.startswith("v ")])
    triangles = [[int(v.split("/")[0]) - 1 for v in s.split()[1:4]] for s in lines if s.startswith("f ")]
    ring = IRIS_RADIUS * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
    irises = [points[list(corners)].mean(0) + ring for corners in EYE_CORNERS]
    return np.concatenate([points, *irises]), np.array(triangles, np.int32)


def neutral_frames(clip: Clip) -> NDArray[np.int64]:
    """The tenth of a clip's frames nearest to rest: lips shut and slack, eyes open."""
    p, t = clip.landmarks, clip.teacher
    size = np.linalg.norm(p[:, 10] - p[:, 152], axis=1)
    lips = np.linalg.norm(p[:, 13] - p[:, 14], axis=1) / size
    lids = sum(np.linalg.norm(p[:, a] - p[:, b], axis=1) for a, b in ((159, 145), (386, 374))) / size
    score = 8 * lips + 3 * np.abs(lids - np.median(lids)) + 0.1 * t[:, 23:].sum(1)
    return np.argsort(score)[: max(3, len(p) // 10)]


def mean_neutral(clips: list[Clip], canonical: Array, mirror: NDArray[np.int64]) -> Array:
    """The symmetric mean over identities of the faces at rest, in face space ``[478, 3]``."""
    face = canonical
    for _ in range(3):
        people = defaultdict(list)
        for clip in clips:
            rest = clip.landmarks[neutral_frames(clip)]
            people[clip.identity].append(np.median(Pose.fit_sequence(rest, face).to_face(rest), 0))
        mean = np.mean([np.mean(faces, 0) for faces in people.values()], 0)
        mean = normalise((mean + mean[mirror] * [-1, 1, 1]) / 2)
        face = shut_lips(mean)
    return face


def shut_lips(face: Array) -> Array:
    """The same face with its inner lips touching."""
    face = face.copy()
    upper, lower = list(UPPER_INNER_LIP[1:-1]), list(LOWER_INNER_LIP)
    face[upper] = face[lower] = (face[upper] + face[lower]) / 2
    return face


def trace(vertices: Array, graph: coo_matrix, ends: list[int], fractions: Array) -> tuple[NDArray[np.int64], Array]:
    """Points at fractions of the length of a path along mesh edges: vertex pairs ``[N, 2]`` and their weights."""
    path = [ends[0]]
    for a, b in zip(ends, ends[1:], strict=False):
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
        distance = np.linalg.norm(w @ corners[n] - point)
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


def author(shapes: Array, face: Array) -> Array:
    """Add what ICT's skin does not hold: irises that turn with the gaze, and the lips' part in ``tongueOut``."""
    shapes = shapes.copy()
    for side, first in (("Right", 468), ("Left", 473)):
        iris = face[first : first + 5]
        pivot = iris[0] - [0, 0, EYEBALL_RADIUS]
        inward = 1.0 if side == "Right" else -1.0  # the person's right eye is on the picture's left
        for move, axis in (("Up", [-1, 0, 0]), ("Down", [1, 0, 0]), ("In", [0, inward, 0]), ("Out", [0, -inward, 0])):
            turned = Rotation.from_rotvec(LOOK * np.array(axis)).apply(iris - pivot) + pivot
            shapes[ARKIT.index(f"eyeLook{move}{side}"), first : first + 5] = turned - iris
    # the tongue itself is not on the mesh: it pushes the lower lip down and forward as a tenth of an open jaw would
    lower = shapes[ARKIT.index("mouthLowerDownLeft")] + shapes[ARKIT.index("mouthLowerDownRight")]
    shapes[ARKIT.index("tongueOut")] = 0.35 * lower + 0.08 * shapes[ARKIT.index("jawOpen")]
    return shapes


def identity_basis(clips: list[Clip], neutral: Array, mirror: NDArray[np.int64], count: int = 24) -> Array:
    """How neutral faces differ between people: principal directions times their spread, ``[count, 478, 3]``."""
    people = defaultdict(list)
    for clip in clips:
        rest = clip.landmarks[neutral_frames(clip)]
        face = normalise(np.median(Pose.fit_sequence(rest, neutral).to_face(rest), 0))
        people[clip.identity].append(shut_lips(face) - neutral)
    differ = np.array([np.mean(faces, 0) for faces in people.values()])
    differ = np.concatenate([differ, differ[:, mirror] * [-1, 1, 1]])
    _, spread, directions = np.linalg.svd(differ.reshape(len(differ), -1), full_matrices=False)
    scaled = directions[:count] * spread[:count, None] / np.sqrt(len(differ))
    return scaled.reshape(count, 478, 3)


def spread_sizes(shapes: Array, face: Array) -> Array:
    """How far each shape moves each point or the points beside it, inter-ocular units ``[52, 478]``."""
    size = np.linalg.norm(shapes, axis=-1)
    size *= np.clip(size / (0.1 * size.max(1, keepdims=True) + 1e-9), 0, 1) ** 2  # faint tails stay as carried
    distance = np.linalg.norm(face[:, None] - face[None], axis=-1)
    return (size[:, None] * np.exp(-0.5 * (distance / 0.06) ** 2)).max(-1)


def pair_lips(shapes: Array) -> Array:
    """Inner-lip points of ``[..., 478, 3]`` to sums and differences of the pairs that meet (its own inverse)."""
    upper, lower = list(UPPER_INNER_LIP[1:-1]), list(LOWER_INNER_LIP)
    paired = shapes.copy()
    paired[..., upper, :] = (shapes[..., upper, :] + shapes[..., lower, :]) / np.sqrt(2)
    paired[..., lower, :] = (shapes[..., upper, :] - shapes[..., lower, :]) / np.sqrt(2)
    return paired


def keep_shut(shapes: Array) -> Array:
    """Lips that touch go on touching under the shapes that do not part them; a lip that rolls in meets the other."""
    shapes = shapes.copy()
    upper, lower = list(UPPER_INNER_LIP[1:-1]), list(LOWER_INNER_LIP)
    roll_lower, roll_upper = ARKIT.index("mouthRollLower"), ARKIT.index("mouthRollUpper")
    shapes[roll_lower, lower], shapes[roll_upper, upper] = shapes[roll_lower, upper], shapes[roll_upper, lower]
    shapes[[roll_lower, roll_upper]] *= 0.7  # on this mesh a full roll would turn the lip's red inside out
    paired = pair_lips(shapes)
    paired[np.ix_([ARKIT.index(n) for n in SHUT], LOWER_INNER_LIP)] = 0
    return pair_lips(paired)


def refine(rig: Rig, clips: list[Clip], mirror: NDArray[np.int64], rounds: int, hold: float) -> Rig:
    """Alternate fits of everyone's expression with ridge fits of the shapes toward the carried ones.

    Args:
        hold: how fast the carried shapes are held; a point that a shape moves by ``m`` is held by ``hold / m^2``,
            in units of mean squared coefficients, so that a shape changes in proportion to what it is.
    """
    carried = rig.shapes.astype(np.float64)
    ridge = hold / spread_sizes(carried, rig.neutral.astype(np.float64)).clip(1e-4, 0.1) ** 2
    ridge[:, [p for p in RIM if p not in CHIN]] *= 5  # the outline follows the picture's edge of the face, not the skin
    ridge[[k for k, n in enumerate(ARKIT) if n.startswith(RARE)]] *= 8
    ridge[np.ix_([ARKIT.index(n) for n in SHUT], LOWER_INNER_LIP)] = ridge[:, 468:] = ridge[ARKIT.index("tongueOut")] = 1e9
    swap = [ARKIT.index(opposite(n)) for n in ARKIT]
    for step in range(rounds):
        products, pull, people = np.zeros((52, 52)), np.zeros((52, 478, 3)), defaultdict(int)
        for clip in clips:
            people[clip.identity] += 1
        for clip in clips:
            landmarks = clip.landmarks[:: max(1, len(clip.landmarks) // 150)]
            fit = rig.fit_video(landmarks, smooth=0.0)
            c = fit.coefficients.astype(np.float64)
            own = rig.for_face(fit.neutral)
            motion = fit.pose.to_face(landmarks) - own.vertices(c) + np.tensordot(c, rig.shapes, 1)
            weight = 0.5 / people[clip.identity] / len(c)
            for k, m in ((c, motion), (c[:, swap], motion[:, mirror] * [-1, 1, 1])):
                products += weight * k.T @ k
                pull += weight * np.tensordot(k.T, m, 1)
        products, pull = products / len(people), pull / len(people)
        old, left = pair_lips(carried), pair_lips(pull - np.tensordot(products, carried, 1))
        shapes = pair_lips(
            np.stack([old[:, p] + np.linalg.solve(products + np.diag(ridge[:, p]), left[:, p]) for p in range(478)], 1)
        )
        shapes = (shapes + shapes[swap][:, mirror] * [-1, 1, 1]) / 2
        grown = np.sqrt((shapes**2).sum((1, 2)) / (carried**2).sum((1, 2)))
        shapes *= (np.clip(grown, 0.8, 1.3) / grown)[:, None, None]  # a coefficient of 1 stays what ARKit means by it
        before, rig = rig.shapes, replace(rig, shapes=shapes.astype(np.float32))
        closed = rig.for_face(rig.neutral).shapes
        closing = [ARKIT.index(n) for n in ("eyeBlinkLeft", "eyeBlinkRight", "mouthClose")]
        rig.shapes[closing] = closed[closing]
        print(f"round {step}: shapes changed by {np.abs(rig.shapes - before).max():.3f}", flush=True)
    return rig


def one_share(clips: list[Clip], most: int = 3) -> list[Clip]:
    """At most a few clips a person."""
    counts: dict[str, int] = defaultdict(int)
    kept = []
    for clip in clips:
        counts[clip.identity] += 1
        if counts[clip.identity] <= most:
            kept.append(clip)
    return kept


def save(rig: Rig, path: Path) -> None:
    """Write the asset: shapes and identity in half precision."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {"neutral": rig.neutral, "triangles": rig.triangles}
    tensors |= {"shapes": rig.shapes.astype(np.float16), "identity": rig.identity.astype(np.float16)}
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path)


def opposite(name: str) -> str:
    """The shape on the face's other side."""
    if name.endswith("Left"):
        return name.removesuffix("Left") + "Right"
    return name.removesuffix("Right") + "Left" if name.endswith("Right") else name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv and meshes/")
    parser.add_argument("--tracks", type=Path, required=True, help="folder with one .npz of landmarks a video")
    parser.add_argument("-o", "--output", type=Path, default=Path("src/magictalk/assets/rig/rig.safetensors"))
    parser.add_argument("--rounds", type=int, default=5, help="rounds of refinement")
    parser.add_argument("--hold", type=float, default=4e-6, help="weight of the carried shapes in the refinement")
    args = parser.parse_args()

    canonical, triangles = read_canonical(args.data / "meshes" / "canonical_face_model.obj")
    mirror = mirror_index(canonical)
    train = load_clips(args.data, args.tracks, "train")
    neutral = mean_neutral(train, canonical, mirror)
    with np.load(args.data / "meshes" / "ict_facekit_expressions.npz") as file:
        mesh = dict(file)
    landmarks = json.loads((args.data / "meshes" / "ict_facekit_vertex_indices.json").read_text())["idx_to_landmark_verts"]
    index, weight, scale = register(mesh, landmarks, neutral)
    shapes = keep_shut(author(carry(mesh, index, weight, scale), neutral))
    basis = identity_basis(train, neutral, mirror)
    rig = Rig(neutral.astype(np.float32), shapes.astype(np.float32), triangles, basis.astype(np.float32))
    rig = refine(rig, one_share(train), mirror, args.rounds, args.hold)
    save(rig, args.output)


if __name__ == "__main__":
    main()
