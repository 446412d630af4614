"""How a face speaks: an expression over time, from emotion labels, a timeline, or a picture or clip of one.

Emotions follow EMFACS (Friesen and Ekman 1983): each is a few action units of the face, and each action unit is a few
of ARKit's coefficients, after the names that both give the same muscles.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from magictalk.errors import MotionError, PortraitError, StyleError, VideoError
from magictalk.motion import ARKIT, FPS, Motion

if TYPE_CHECKING:
    from magictalk.face.landmarks import FaceDetector

ACTION_UNITS: dict[str, dict[str, float]] = {
    "1": {"browInnerUp": 1.0},
    "2": {"browOuterUpLeft": 1.0, "browOuterUpRight": 1.0},
    "4": {"browDownLeft": 1.0, "browDownRight": 1.0},
    "5": {"eyeWideLeft": 1.0, "eyeWideRight": 1.0},
    "6": {"cheekSquintLeft": 1.0, "cheekSquintRight": 1.0, "eyeSquintLeft": 0.4, "eyeSquintRight": 0.4},
    "7": {"eyeSquintLeft": 1.0, "eyeSquintRight": 1.0},
    "9": {"noseSneerLeft": 1.0, "noseSneerRight": 1.0},
    "10": {"mouthUpperUpLeft": 1.0, "mouthUpperUpRight": 1.0},
    "12": {"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0},
    "R12": {"mouthSmileRight": 1.0},
    "14": {"mouthDimpleLeft": 1.0, "mouthDimpleRight": 1.0},
    "R14": {"mouthDimpleRight": 1.0},
    "15": {"mouthFrownLeft": 1.0, "mouthFrownRight": 1.0},
    "16": {"mouthLowerDownLeft": 1.0, "mouthLowerDownRight": 1.0},
    "17": {"mouthShrugLower": 1.0},
    "20": {"mouthStretchLeft": 1.0, "mouthStretchRight": 1.0},
    "23": {"mouthPressLeft": 0.6, "mouthPressRight": 0.6, "mouthRollLower": 0.5, "mouthRollUpper": 0.5},
    "26": {"jawOpen": 1.0},
    "43": {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
}
"""ARKit coefficients of an action unit at full strength; R is the person's right side alone."""

EMFACS: dict[str, dict[str, float]] = {
    "neutral": {},
    "happy": {"6": 0.7, "12": 0.75},
    "sad": {"1": 0.75, "4": 0.35, "15": 0.6, "17": 0.25, "43": 0.2},
    "angry": {"4": 0.9, "5": 0.35, "7": 0.45, "9": 0.25, "23": 0.45},
    "fear": {"1": 0.8, "2": 0.4, "4": 0.35, "5": 0.85, "20": 0.6, "26": 0.15},
    "disgust": {"4": 0.3, "7": 0.3, "9": 0.8, "10": 0.4, "15": 0.4, "17": 0.2},
    "surprised": {"1": 0.8, "2": 0.85, "5": 0.7, "26": 0.2},
    "contempt": {"R12": 0.55, "R14": 0.7, "7": 0.2},
}
"""Strength of each action unit in an emotion at intensity 1. Units that open the mouth are small: it must speak."""

EMOTIONS = tuple(EMFACS)
"""The labels there are."""
MOST_INTENSE = 1.5
CHANGE = 0.8
"""Seconds that a face takes from one expression to the next."""
LATEST = 1e6
"""Seconds at which a timeline's last entry may begin."""

MOST_FRAMES = 300
"""Frames kept of a style's video."""
OPEN = 0.3
"""How far a style may hold the lips apart."""

_USUAL = {
    "browDown": 0.3, "browInnerUp": 0.2, "browOuterUp": 0.25, "eyeWide": 0.55, "eyeSquint": 0.5, "cheekSquint": 0.07,
    "noseSneer": 0.1, "mouthSmile": 0.25, "mouthFrown": 0.35, "mouthStretch": 0.35, "mouthDimple": 0.15,
    "mouthShrugLower": 0.3, "mouthUpperUp": 0.3, "mouthLowerDown": 0.25, "jawOpen": 0.3,
}  # fmt: skip
"""What one face in ten of people who just talk exceeds (73 speakers of the training videos, pictures and clips of them
alike), for the muscles that show emotion. All others speak, place the jaw, or read as much on faces at rest."""
_ONE_SIDED = ("mouthSmile", "mouthDimple")  # smirks; elsewhere a picture's sides differ by mistake
_ELSEWHERE = np.array([name.startswith(("eyeLook", "eyeBlink")) for name in ARKIT])
_WIDE, _BROWS = (np.array([name.startswith(part) for name in ARKIT]) for part in ("eyeWide", "brow"))
_OPENERS = np.isin(
    ARKIT, ("jawOpen", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight")
)


def units(strengths: dict[str, float]) -> NDArray[np.float32]:
    """Coefficients ``[52]`` of action units, each with its strength; where two share one, the stronger counts."""
    face = np.zeros(len(ARKIT), np.float32)
    for unit, strength in strengths.items():
        for name, share in ACTION_UNITS[unit].items():
            place = ARKIT.index(name)
            face[place] = max(face[place], strength * share)
    return face


def expression(label: str, intensity: float = 1.0) -> NDArray[np.float32]:
    """The expression ``[52]`` of an emotion.

    Args:
        label: one of ``EMOTIONS``.
        intensity: 0 (none) to 1.5.

    Raises:
        StyleError: when there is no such emotion, or the intensity is out of range.
    """
    if label not in EMFACS:
        raise StyleError(f"no emotion named {label!r}; expected one of {', '.join(EMOTIONS)}")
    if not 0 <= intensity <= MOST_INTENSE:
        raise StyleError(f"intensity of {label} is {intensity:g}; expected 0 to {MOST_INTENSE:g}")
    return (intensity * units(EMFACS[label])).clip(0, 1)


def variant(label: str, rng: np.random.Generator, spread: float = 0.35) -> NDArray[np.float32]:
    """An emotion ``[52]`` as one person may show it: each action unit stronger or weaker, one side more than the other.

    Args:
        label: one of ``EMOTIONS``.
        rng: draws the strengths.
        spread: standard deviation of their logarithms.
    """
    strengths = {unit: strength * float(np.exp(rng.normal(0, spread))) for unit, strength in EMFACS[label].items()}
    return lopsided(units(strengths), rng)


def lopsided(face: NDArray[np.float32], rng: np.random.Generator, spread: float = 0.12) -> NDArray[np.float32]:
    """Coefficients ``[52]`` with the person's left side a little stronger than the right one, or weaker."""
    side = rng.normal(0, spread)
    left, right = (np.array([name.endswith(end) for name in ARKIT]) for end in ("Left", "Right"))
    return (face * (1 + side * left - side * right)).clip(0, 1).astype(np.float32)


def lay_over(
    talking: NDArray[np.float32], expression: NDArray[np.float32], closure: NDArray[np.float32] | float = 0.0
) -> NDArray[np.float32]:
    """A talking face with an expression on top.

    Coefficients add toward 1 without passing it. What would hold the lips apart yields where speech closes them.

    Args:
        talking: ``[..., 52]``.
        expression: ``[..., 52]``.
        closure: ``[...]``, 1 where speech closes the lips.

    Returns:
        ``[..., 52]``.
    """
    free = 1 - np.asarray(closure, np.float32)[..., None] * _OPENERS
    return (talking + expression * free * (1 - talking)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Style:
    """How a face speaks. Make one with a class method.

    Attributes:
        times: float64 ``[K]``, seconds at which the face begins to change to the next expression; rising from 0.
        expressions: float32 ``[K, 52]``, what lies over the talking face from then on, 0..1.
        frames: float32 ``[F, 52]``, faces of the picture or clip that the style was taken from, or None.
        lips, head: how much of the usual motion of lips and head there is; 1 is all of it.
    """

    times: NDArray[np.float64]
    expressions: NDArray[np.float32]
    frames: NDArray[np.float32] | None = None
    lips: float = 1.0
    head: float = 1.0

    @classmethod
    def still(cls, expression: NDArray[np.float32], **more: Any) -> Style:
        """One expression ``[52]`` throughout."""
        return cls(np.zeros(1), np.asarray(expression, np.float32)[None], **more)

    @classmethod
    def neutral(cls) -> Style:
        """Nothing over the talking face."""
        return cls.emotion("neutral")

    @classmethod
    def emotion(cls, label: str, intensity: float = 1.0) -> Style:
        """One emotion throughout; see :func:`expression` for the arguments and errors."""
        return cls.still(expression(label, intensity))

    @classmethod
    def mix(cls, intensities: Mapping[str, float]) -> Style:
        """Several emotions at once, each with its intensity: ``Style.mix({"sad": 0.6, "fear": 0.3})``.

        Raises:
            StyleError: when there is no such emotion, or an intensity is out of range.
        """
        return cls.still(sum((expression(*part) for part in intensities.items()), units({})).clip(0, 1))

    @classmethod
    def parse(cls, text: str) -> Style:
        """An emotion as one writes it: ``"happy"``, ``"happy 0.8"``, or several, ``"sad 0.6 + fear 0.3"``.

        Raises:
            StyleError: when it is written otherwise, there is no such emotion, or an intensity is out of range.
        """
        return cls.mix(_intensities(text))

    @classmethod
    def timeline(cls, text: str) -> Style:
        """Emotions that follow each other: ``"0s neutral, 4s happy 0.8, 1:05 surprised"``.

        Each entry is a time (seconds, or minutes:seconds) and an emotion as :meth:`parse` reads it, which begins then.
        Before the first entry the face is neutral.

        Raises:
            StyleError: when nothing is given, an entry is written otherwise, times do not rise or pass 1000000 s, or as
                :meth:`parse`.
        """
        entries = [entry.strip() for entry in re.split("[,;\n]", text) if entry.strip()]
        if not entries:
            raise StyleError(f"timeline is empty; expected {_TIMELINE}")
        keys = [_key(entry) for entry in entries]
        for (before, _), (time, _), one, other in zip(keys, keys[1:], entries, entries[1:], strict=False):
            if time <= before:
                raise StyleError(f"timeline has {other!r} after {one!r}; expected times that rise, such as {_TIMELINE}")
        if keys[0][0] > 0:
            keys.insert(0, (0.0, units({})))
        times, faces = zip(*keys, strict=True)
        return cls(np.array(times), np.stack(faces))

    @classmethod
    def open(cls, path: str | Path, detector: FaceDetector | None = None) -> Style:
        """The expression of the face in a picture or a video, or of a motion file's.

        What is laid over the talking face is what this one shows beyond a face that just talks. Where it looks, how
        its head is held and when it blinks are no part of it. Of a long video 300 frames are taken, evenly; of an
        animated picture that cannot be played, the first.

        Args:
            path: picture, video, or what :meth:`Motion.save` writes.
            detector: one already loaded, when many are opened.

        Raises:
            StyleError: when there is no such file, it cannot be read, or it shows no face.
        """
        path = Path(path)
        if not os.path.isfile(path):  # unlike Path.is_file, also False for a name too long
            raise StyleError(f"no file at {path}; expected a picture or a video of an expression")
        try:
            frames = _faces(path, detector)
        except (PortraitError, VideoError, MotionError) as error:
            # the advice of these errors is for other uses of such files
            reason = str(error).split(";")[0]
            raise StyleError(f"{reason}; expected a picture, video or motion file of an expression") from error
        frames = np.where(_ELSEWHERE, np.float32(0), frames)
        return cls.still(beyond_talk(frames), frames=frames)

    @property
    def faces(self) -> NDArray[np.float32]:
        """The :attr:`frames` ``[F, 52]``, none where the style came without."""
        return np.zeros((0, len(ARKIT)), np.float32) if self.frames is None else self.frames

    def expression(self, seconds: ArrayLike) -> NDArray[np.float32]:
        """What to lay over the talking face at each of ``seconds [T]``: float32 ``[T, 52]``.

        At each key's time the face begins to change, and has changed smoothly within 0.8 s, or by the next key's.
        """
        lengths = np.minimum(np.diff(self.times, append=np.inf), CHANGE)[1:]
        x = ((np.asarray(seconds, np.float64)[:, None] - self.times[1:]) / lengths).clip(0, 1)
        return (self.expressions[0] + (x * x * (3 - 2 * x)) @ np.diff(self.expressions, axis=0)).astype(np.float32)


def beyond_talk(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """What faces ``[F, 52]`` of one person show beyond people who just talk, ``[52]``.

    That is what a quarter of the frames exceed, so that neither speech nor a tracker's slip counts, beyond what one
    face in ten of people who just talk exceeds.
    """
    shown = np.zeros(len(ARKIT), np.float32)
    for name, usual in _USUAL.items():
        sides = [i for i, full in enumerate(ARKIT) if full in (name, f"{name}Left", f"{name}Right")]
        level = np.percentile(frames[:, sides], 75, axis=0)
        shown[sides] = ((level if name in _ONE_SIDED else level.mean()) - usual).clip(0) / (1 - usual)
    # large eyes and wide ones look alike to a mesh; nobody opens them wide with the brows at rest
    shown[_WIDE] = np.minimum(shown[_WIDE], shown[_BROWS].max())
    shown[_OPENERS] = shown[_OPENERS].clip(max=OPEN)  # it must speak
    return shown


def _faces(path: Path, detector: FaceDetector | None) -> NDArray[np.float32]:
    """Coefficients ``[F, 52]`` of the faces in a file."""
    from PIL import Image, UnidentifiedImageError

    from magictalk.portrait import Portrait

    if path.suffix in (".npz", ".csv"):
        faces = Motion.open(path).coefficients
        if not len(faces):
            raise MotionError(f"{path} holds no frame")
        return faces[np.linspace(0, len(faces) - 1, min(len(faces), MOST_FRAMES)).round().astype(int)]
    try:
        with Image.open(path) as picture:
            moves = picture.format in _ANIMATIONS and getattr(picture, "is_animated", False) and _plays(path)
    except UnidentifiedImageError:
        moves = True
    except (OSError, ValueError, Image.DecompressionBombError):
        moves = False  # a bad picture, of which the portrait's reader knows more to say
    return _faces_of_video(path, detector) if moves else Portrait.open(path, detector=detector).coefficients[None]


def _plays(path: Path) -> bool:
    """Whether an animated picture can be read as a video; FFmpeg knows no animated WebP."""
    from magictalk.video import probe

    try:
        probe(path)
    except VideoError:
        return False
    return True


def _faces_of_video(path: Path, detector: FaceDetector | None) -> NDArray[np.float32]:
    from magictalk.face.landmarks import LANDMARKS, FaceTracker
    from magictalk.face.rig import Rig
    from magictalk.video import probe, read_frames

    tracker = FaceTracker(detector)
    meshes = [tracker(frame) for frame in read_frames(path, min(FPS, MOST_FRAMES / probe(path).duration))]
    seen = np.array([mesh is not None for mesh in meshes])
    if not seen.any():
        raise VideoError(f"no face in any of {len(meshes)} frames of {path}")
    unseen = np.full((LANDMARKS, 3), np.nan, np.float32)
    landmarks = np.stack([unseen if mesh is None else mesh.landmarks for mesh in meshes])
    return Rig.load().fit_video(landmarks).coefficients[seen]


_ANIMATIONS = ("GIF", "PNG", "WEBP")
"""Formats whose further frames are later ones, and not another size or page."""
_TIMELINE = "'0s neutral, 4s happy 0.8'"


def strongest(text: str) -> str:
    """The label of an emotion as :meth:`Style.parse` reads it; of several, the most intense.

    Raises:
        StyleError: when it is written otherwise.
    """
    found = _intensities(text)
    return max(found, key=lambda label: found[label])


def _intensities(text: str) -> dict[str, float]:
    """Emotions and their intensities of ``"sad 0.6 + fear 0.3"``."""
    found: dict[str, float] = {}
    for part in text.lower().split("+"):
        match = re.fullmatch(r"\s*([a-z]+)(?:\s+(\S+))?\s*", part)
        if match is None:
            raise StyleError(f"no emotion {text.strip()!r}; expected one of {', '.join(EMOTIONS)}, such as 'happy 0.8'")
        label, intensity = match.groups(default="1")
        try:
            found[label] = found.get(label, 0.0) + float(intensity)
        except ValueError as error:
            raise StyleError(f"intensity of {label} is {intensity!r}; expected 0 to {MOST_INTENSE:g}") from error
    return found


def _key(entry: str) -> tuple[float, NDArray[np.float32]]:
    """Seconds and expression ``[52]`` of a timeline's entry."""
    match = re.fullmatch(r"(?:(\d+):)?(\d+(?:\.\d*)?|\.\d+)\s*(?:s|sec|seconds?)?\s+(\D.*)", entry)
    if match is None:
        raise StyleError(f"timeline has {entry!r}; expected a time and an emotion, such as {_TIMELINE}")
    minutes, seconds, emotion = match.groups(default="0")
    time = 60 * float(minutes) + float(seconds)  # a float, as an int of very many digits is none to Python
    if time > LATEST:
        raise StyleError(f"timeline has {entry!r}; expected times up to {LATEST:.0f} s")
    return time, Style.parse(emotion).expressions[0]
