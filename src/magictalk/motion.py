"""Motion: ARKit-52 coefficients and head pose over time; the common tongue of drives and renders."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation, Slerp

from magictalk.errors import MotionError

FPS = 25.0
"""Frames a second of the project's frame grid."""

ARKIT = (
    "eyeBlinkLeft", "eyeLookDownLeft", "eyeLookInLeft", "eyeLookOutLeft", "eyeLookUpLeft", "eyeSquintLeft",
    "eyeWideLeft", "eyeBlinkRight", "eyeLookDownRight", "eyeLookInRight", "eyeLookOutRight", "eyeLookUpRight",
    "eyeSquintRight", "eyeWideRight", "jawForward", "jawLeft", "jawRight", "jawOpen", "mouthClose", "mouthFunnel",
    "mouthPucker", "mouthLeft", "mouthRight", "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft",
    "mouthFrownRight", "mouthDimpleLeft", "mouthDimpleRight", "mouthStretchLeft", "mouthStretchRight",
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthPressLeft", "mouthPressRight",
    "mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight", "browDownLeft",
    "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff", "cheekSquintLeft",
    "cheekSquintRight", "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip
"""The 52 blendshapes in the order of Apple's ARKit and of Live Link Face files. Left is the person's left."""

_EXTRA_CSV = (
    "HeadYaw", "HeadPitch", "HeadRoll", "LeftEyeYaw", "LeftEyePitch", "LeftEyeRoll", "RightEyeYaw", "RightEyePitch",
    "RightEyeRoll",
)  # fmt: skip


def _indices(*prefixes: str) -> tuple[int, ...]:
    return tuple(i for i, name in enumerate(ARKIT) if name.startswith(prefixes))


GROUPS: dict[str, tuple[int, ...]] = {
    "lips": _indices("jaw", "mouth", "cheekPuff", "tongue"),
    "brows": _indices("brow"),
    "eyes": _indices("eye"),
    "cheeks": _indices("cheekSquint", "nose"),
}
"""Coefficient indices by part of the face; together they are all 52. Head pose is the group ``"head"``."""

BLINK = _indices("eyeBlink")
"""The two eyelid coefficients."""


@dataclass(frozen=True)
class Motion:
    """A face moving.

    Attributes:
        coefficients: float32 ``[T, 52]`` in ``ARKIT`` order, 0..1.
        head: float32 ``[T, 6]``: rotation vector in radians, then translation in face space (inter-ocular units).
        fps: frames a second.

    Raises:
        MotionError: when shapes disagree, a value is not finite, or ``fps`` is not positive.
    """

    coefficients: NDArray[np.float32]
    head: NDArray[np.float32] = field(default=None)  # type: ignore[arg-type]
    fps: float = FPS

    def __post_init__(self) -> None:
        c = np.asarray(self.coefficients, np.float32)
        h = np.zeros((len(c), 6), np.float32) if self.head is None else np.asarray(self.head, np.float32)
        if c.ndim != 2 or c.shape[1] != len(ARKIT) or h.shape != (len(c), 6):
            raise MotionError(f"motion has shapes {c.shape} and {h.shape}; expected [T, 52] and [T, 6]")
        if not (np.isfinite(c).all() and np.isfinite(h).all()):
            raise MotionError("motion holds values that are not finite; clean the file or array first")
        if not self.fps > 0:
            raise MotionError(f"motion has {self.fps} frames a second; expected a positive number")
        object.__setattr__(self, "coefficients", c)
        object.__setattr__(self, "head", h)

    def __len__(self) -> int:
        return len(self.coefficients)

    def __getitem__(self, frames: slice) -> Motion:
        return replace(self, coefficients=self.coefficients[frames], head=self.head[frames])

    def __add__(self, other: Motion) -> Motion:
        """Sum of two motions frame by frame: coefficients and translations add (clipped), rotations compose."""
        _check_alike(self, other)
        rotation = Rotation.from_rotvec(other.head[:, :3]) * Rotation.from_rotvec(self.head[:, :3])
        head = np.concatenate([rotation.as_rotvec(), self.head[:, 3:] + other.head[:, 3:]], 1)
        return Motion((self.coefficients + other.coefficients).clip(0, 1), head, self.fps)

    @staticmethod
    def zeros(frames: int, fps: float = FPS) -> Motion:
        """A face at rest for ``frames`` frames."""
        return Motion(np.zeros((frames, len(ARKIT)), np.float32), fps=fps)

    @staticmethod
    def concatenate(parts: Sequence[Motion]) -> Motion:
        """One motion after the other; all must share ``fps``."""
        if not parts:
            return Motion.zeros(0)
        if any(p.fps != parts[0].fps for p in parts):
            raise MotionError(f"cannot join motions of {sorted({p.fps for p in parts})} fps; resample them first")
        return Motion(
            np.concatenate([p.coefficients for p in parts]), np.concatenate([p.head for p in parts]), parts[0].fps
        )

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self) / self.fps

    def resample(self, fps: float) -> Motion:
        """The same motion at another frame rate: linear for coefficients and translation, slerp for rotation."""
        if not fps > 0:
            raise MotionError(f"cannot resample to {fps} frames a second; expected a positive number")
        if fps == self.fps or len(self) < 2:
            return replace(self, fps=fps)
        old = np.arange(len(self)) / self.fps
        new = np.minimum(np.arange(max(1, round(len(self) / self.fps * fps))) / fps, old[-1])
        values = np.concatenate([self.coefficients, self.head[:, 3:]], 1)
        values = np.stack([np.interp(new, old, v) for v in values.T], 1)
        rotation = Slerp(old, Rotation.from_rotvec(self.head[:, :3]))(new).as_rotvec()
        return Motion(values[:, :52], np.concatenate([rotation, values[:, 52:]], 1), fps)

    def blend(self, other: Motion, weight: float | NDArray[np.float32]) -> Motion:
        """``(1 - weight) * self + weight * other``; ``weight`` is a number or one a frame, 0..1."""
        _check_alike(self, other)
        w = np.broadcast_to(np.asarray(weight, np.float32), (len(self),))
        a, b = Rotation.from_rotvec(self.head[:, :3]), Rotation.from_rotvec(other.head[:, :3])
        rotation = (a * Rotation.from_rotvec((a.inv() * b).as_rotvec() * w[:, None])).as_rotvec()
        w = w[:, None]
        return Motion(
            (1 - w) * self.coefficients + w * other.coefficients,
            np.concatenate([rotation, (1 - w) * self.head[:, 3:] + w * other.head[:, 3:]], 1),
            self.fps,
        )

    def take(self, other: Motion, *groups: str) -> Motion:
        """This motion with the named groups (``GROUPS`` or ``"head"``) taken from ``other``."""
        _check_alike(self, other)
        c, head = self.coefficients.copy(), self.head
        for name in groups:
            if name == "head":
                head = other.head
            else:
                c[:, _group(name)] = other.coefficients[:, _group(name)]
        return Motion(c, head, self.fps)

    def scale(self, **amplitudes: float) -> Motion:
        """Scale groups: ``motion.scale(lips=1.2, head=0.5)``; ``blink`` scales the eyelids alone. 0 stills a group."""
        c, head = self.coefficients.copy(), self.head.copy()
        for name, amount in amplitudes.items():
            if not amount >= 0:
                raise MotionError(f"cannot scale {name} by {amount}; expected 0 or more")
            if name == "head":
                head *= amount
            else:
                c[:, BLINK if name == "blink" else _group(name)] *= amount
        return Motion(c.clip(0, 1), head, self.fps)

    def relative(self) -> Motion:
        """Head pose re-based on the first frame, so that frame 0 has none (coefficients stay absolute)."""
        if len(self) == 0:
            return self
        first = Rotation.from_rotvec(self.head[0, :3])
        rotation = (Rotation.from_rotvec(self.head[:, :3]) * first.inv()).as_rotvec()
        return replace(self, head=np.concatenate([rotation, self.head[:, 3:] - self.head[0, 3:]], 1))

    def save(self, path: str | Path) -> Path:
        """Write ``.npz`` (exact) or ``.csv`` (Live Link Face layout: no translation, angles in radians).

        Raises:
            MotionError: on another suffix, or when the file cannot be written.
        """
        path = Path(path)
        if path.suffix not in (".npz", ".csv"):
            raise MotionError(f"cannot write motion as {path.name}; use a name that ends in .npz or .csv")
        try:
            if path.suffix == ".npz":
                np.savez_compressed(path, coefficients=self.coefficients, head=self.head, fps=self.fps)
            else:
                self._save_csv(path)
        except OSError as error:
            raise MotionError(f"cannot write {path}: {error.strerror or error}") from error
        return path

    def _save_csv(self, path: Path) -> None:
        # Live Link Face: yaw about y, pitch about x, roll about z, applied roll first
        yaw, pitch, roll = Rotation.from_rotvec(self.head[:, :3]).as_euler("YXZ").T if len(self) else np.zeros((3, 0))
        look = {name: self.coefficients[:, ARKIT.index(name)] for name in ARKIT if name.startswith("eyeLook")}
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["Timecode", "BlendShapeCount", *(n[0].upper() + n[1:] for n in ARKIT), *_EXTRA_CSV])
            for t, row in enumerate(self.coefficients):
                second, frame = divmod(t / self.fps, 1)
                hours, minutes = int(second) // 3600, int(second) // 60 % 60
                stamp = f"{hours:02d}:{minutes:02d}:{int(second) % 60:02d}:{frame * self.fps:06.3f}"
                eyes = [
                    look["eyeLookOutLeft"][t] - look["eyeLookInLeft"][t],
                    look["eyeLookDownLeft"][t] - look["eyeLookUpLeft"][t], 0.0,
                    look["eyeLookInRight"][t] - look["eyeLookOutRight"][t],
                    look["eyeLookDownRight"][t] - look["eyeLookUpRight"][t], 0.0,
                ]  # fmt: skip
                values = [*row, yaw[t], pitch[t], roll[t], *eyes]
                writer.writerow([stamp, 61, *(f"{v:.7g}" for v in values)])

    @staticmethod
    def from_video(path: str | Path) -> Motion:
        """Expression and head pose of the face in a video, on the 25 fps frame grid.

        Head rotation is absolute (zero: facing the camera), translation is since the first frame that shows the
        face. While the face is out of sight the motion goes over from what was last seen to what is next seen.

        Raises:
            VideoError: when the file cannot be read as a video.
            MotionError: when no frame shows a face.
        """
        from magictalk.face.landmarks import LANDMARKS, FaceTracker
        from magictalk.face.rig import Rig, lids_closed
        from magictalk.video import read_frames

        tracker, meshes = FaceTracker(), []
        for frame in read_frames(path, FPS):
            face = tracker(frame)
            meshes.append(np.full((LANDMARKS, 3), np.nan, np.float32) if face is None else face.landmarks)
        seen = [i for i, mesh in enumerate(meshes) if np.isfinite(mesh[0, 0])]
        if not seen:
            raise MotionError(f"no face in any of the {len(meshes)} frames of {path}; expected a video that shows one")
        fit = Rig.load().fit_video(np.stack(meshes))
        head = fit.pose.head_since(fit.pose[seen[0]])
        fit.coefficients[:, BLINK] = lids_closed(fit.coefficients[:, BLINK])
        # a head has mass: what trembles within a frame is the tracker
        return Motion(fit.coefficients, gaussian_filter1d(head, 0.8, axis=0, mode="nearest"), FPS)

    @staticmethod
    def open(path: str | Path, fps: float | None = None) -> Motion:
        """Read what :meth:`save` writes, or any Live Link Face recording.

        Args:
            path: ``.npz`` or ``.csv``.
            fps: frame rate of a csv; by default measured from its time codes.

        Raises:
            MotionError: when the file is missing, of another kind, or malformed.
        """
        path = Path(path)
        if not path.is_file():
            raise MotionError(f"no motion file at {path}")
        try:
            if path.suffix == ".npz":
                with np.load(path, allow_pickle=False) as data:
                    return Motion(data["coefficients"], data["head"], float(data["fps"]))
            if path.suffix == ".csv":
                return _open_csv(path, fps)
        except (OSError, ValueError, KeyError, IndexError, EOFError, BadZipFile, csv.Error) as error:
            raise MotionError(
                f"{path} is not a motion file ({error}); expected MagicTalk .npz or Live Link .csv"
            ) from error
        raise MotionError(f"cannot read motion from {path.name}; expected .npz or .csv")


def _open_csv(path: Path, fps: float | None) -> Motion:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file))
    header = {name.strip().lower(): i for i, name in enumerate(rows[0])}
    missing = [n for n in ARKIT if n.lower() not in header]
    if missing:
        raise ValueError(f"no column {missing[0]}")
    body = [r for r in rows[1:] if r]
    columns = [header[n.lower()] for n in ARKIT]
    coefficients = np.array([[float(r[i]) for i in columns] for r in body], np.float32).reshape(-1, 52)
    head = np.zeros((len(body), 6), np.float32)
    if "headyaw" in header and body:
        angles = np.array([[float(r[header[k]]) for k in ("headyaw", "headpitch", "headroll")] for r in body])
        head[:, :3] = Rotation.from_euler("YXZ", angles).as_rotvec()
    if fps is None:
        fps = _measure_fps([r[header["timecode"]] for r in body]) if "timecode" in header else FPS
    return Motion(coefficients.clip(0, 1), head, fps)


def _measure_fps(stamps: list[str]) -> float:
    """Frame rate from ``HH:MM:SS:FF.fff`` codes: the frames seen between two changes of the second."""
    seconds = [s.rsplit(":", 1)[0] for s in stamps]
    changes = [i for i in range(1, len(seconds)) if seconds[i] != seconds[i - 1]]
    if len(changes) >= 2:
        return float(np.median(np.diff(changes)))
    return FPS


def _group(name: str) -> list[int]:
    if name not in GROUPS:
        raise MotionError(f"no group named {name}; expected one of {', '.join(GROUPS)}, head")
    return list(GROUPS[name])


def _check_alike(a: Motion, b: Motion) -> None:
    if len(a) != len(b) or a.fps != b.fps:
        raise MotionError(
            f"motions differ: {len(a)} frames at {a.fps} fps against {len(b)} at {b.fps}; resample or cut one first"
        )
