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
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ict import carry, register
from numpy.typing import NDArray
from safetensors.numpy import save_file
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from magictalk.face.pose import EYE_CORNERS, Pose, normalise
from magictalk.face.rig import LOWER_INNER_LIP, UPPER_INNER_LIP, Rig
from magictalk.motion import ARKIT

Array = NDArray[np.float64]

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
    ridge[:, 468:] = ridge[ARKIT.index("tongueOut")] = 1e9
    ridge[np.ix_([ARKIT.index(n) for n in SHUT], LOWER_INNER_LIP)] = 1e9
    swap = [ARKIT.index(opposite(n)) for n in ARKIT]
    people = Counter(clip.identity for clip in clips)
    for step in range(rounds):
        products, pull = np.zeros((52, 52)), np.zeros((52, 478, 3))
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
    indices = json.loads((args.data / "meshes" / "ict_facekit_vertex_indices.json").read_text())
    index, weight, scale = register(mesh, indices["idx_to_landmark_verts"], neutral)
    shapes = keep_shut(author(carry(mesh, index, weight, scale), neutral))
    basis = identity_basis(train, neutral, mirror)
    rig = Rig(neutral.astype(np.float32), shapes.astype(np.float32), triangles, basis.astype(np.float32))
    rig = refine(rig, one_share(train), mirror, args.rounds, args.hold)
    save(rig, args.output)


if __name__ == "__main__":
    main()
