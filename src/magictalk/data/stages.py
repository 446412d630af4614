"""The stages from a raw video to a training clip, after MCDM section 4.1, each a plain function.

Find scenes, cut them into clips, track the face, crop, judge the picture, judge lips against sound. A stage that
turns a clip down raises :class:`Dropped`; times are on the 25 fps grid throughout. Writing is in ``conform.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from magictalk.data.settings import Settings
from magictalk.errors import MissingDependencyError, SpeechError
from magictalk.face.landmarks import LANDMARKS, FaceDetector, FaceTracker
from magictalk.face.square import head_square
from magictalk.speech import FPS, RATE, Speech
from magictalk.video import probe
from magictalk.video.source import open_media, start_of

if TYPE_CHECKING:
    from magictalk.face.recognition import FaceRecogniser
    from magictalk.metrics.functional.sync import SyncFigures
    from magictalk.sync import Sync

Picture = NDArray[np.uint8]

FRAME_SAMPLES = RATE // FPS
"""Samples of sound a frame."""
_SCENE_PX = 320
"""Longer side of the pictures in which scene cuts are looked for."""
_MARGIN = 0.3
"""Around the mesh's box in a look's picture, in box sizes; recognition's crops reach that far."""
_SILENT = 1e-3
"""Peak of a sound in which nothing is heard (-60 dB)."""


class Dropped(Exception):
    """A clip does not belong in the dataset: which stage says so, and why, in a few words without numbers of its own.

    The same cause always has the same words, so that a report can count them.
    """

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(f"{stage}: {reason}")
        self.stage, self.reason = stage, reason


# 1. scenes


def find_scenes(frames: Iterable[Picture], settings: Settings) -> tuple[int, list[int]]:
    """The number of frames, and the frames at which a new scene begins (frame 0 is not among them).

    PySceneDetect's adaptive detector on small copies of the frames; nothing is kept of them.

    Raises:
        MissingDependencyError: when PySceneDetect is not installed.
    """
    try:
        from scenedetect.detectors import AdaptiveDetector
    except ImportError as error:
        raise MissingDependencyError(
            f"scene cuts need PySceneDetect, which cannot be imported ({error}); pip install 'magictalk[data]'"
        ) from error
    detector = AdaptiveDetector(adaptive_threshold=settings.cut_ratio, min_scene_len=1)
    cuts: list[int] = []
    count = 0
    for frame in frames:
        cuts += detector.process_frame(count, shrink(frame)[..., ::-1])
        count += 1
    return count, [int(c) for c in cuts]


def shrink(frame: Picture) -> Picture:
    """A small copy of a frame, large enough to see scene changes; a small one as it is."""
    scale = min(1.0, _SCENE_PX / max(frame.shape[:2]))
    return np.asarray(cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def cut(frames: int, cuts: Sequence[int], settings: Settings) -> list[tuple[int, int]]:
    """Clips ``(first, past the last)`` that cover every frame: whole scenes, long ones in equal parts."""
    edges = [0, *cuts, frames]
    clips: list[tuple[int, int]] = []
    for first, stop in pairwise(edges):
        parts = -(-(stop - first) // round(settings.longest_s * FPS))
        inner = np.linspace(first, stop, max(1, parts) + 1).round().astype(int).tolist()
        clips += pairwise(inner)
    return clips


# 2. the face


@dataclass(frozen=True)
class Look:
    """A closer look at one frame.

    Attributes:
        others: widths of further faces, in widths of the main one.
        picture: the main face with some margin, uint8 RGB ``[h, w, 3]``, at the raw video's resolution.
        landmarks: float32 ``[478, 3]`` in pixels of that picture.
    """

    others: tuple[float, ...]
    picture: Picture
    landmarks: NDArray[np.float32]


@dataclass(frozen=True)
class Track:
    """The face of a clip.

    Attributes:
        width, height: of the video, pixels.
        landmarks: float32 ``[T, 478, 3]``, pixels of the video, NaN where the face is out of sight.
        looks: one a second.
    """

    width: int
    height: int
    landmarks: NDArray[np.float32]
    looks: tuple[Look, ...]

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Where the face is in sight, ``[T]``."""
        return np.isfinite(self.landmarks[:, 0, 0])

    def boxes(self) -> NDArray[np.float32]:
        """Left, top, right, bottom of the mesh in each frame that shows it, ``[N, 4]`` pixels."""
        points = self.landmarks[self.seen][..., :2]
        return np.concatenate([points.min(1), points.max(1)], 1)

    @property
    def face_px(self) -> float:
        """Width of the face, pixels, median over the clip."""
        boxes = self.boxes()
        return float(np.median(boxes[:, 2] - boxes[:, 0]))


def track_face(frames: Iterable[Picture], tracker: FaceTracker, detector: FaceDetector) -> Track:
    """Follow the largest face through the frames of a clip, and look around for others once a second.

    Raises:
        Dropped: when there is no frame, or no face in any.
    """
    tracker.reset()
    meshes: list[NDArray[np.float32]] = []
    looks: list[Look] = []
    shape: tuple[int, ...] = ()
    for t, frame in enumerate(frames):
        face = tracker(frame)
        meshes.append(np.full((LANDMARKS, 3), np.nan, np.float32) if face is None else face.landmarks)
        if face is not None and t >= len(looks) * FPS:
            looks.append(_look(frame, face.landmarks, detector))
        shape = frame.shape
    if not looks:
        raise Dropped("face", "no face in sight")
    return Track(shape[1], shape[0], np.stack(meshes), tuple(looks))


def _look(frame: Picture, landmarks: NDArray[np.float32], detector: FaceDetector) -> Look:
    low, high = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
    others = []
    for other in detector(frame):
        x, y, w, h = other.box
        if not (low < [x + w / 2, y + h / 2]).all() or not ([x + w / 2, y + h / 2] < high).all():
            others.append(w / float(high[0] - low[0]))
    margin = _MARGIN * (high - low)
    left, top = np.maximum(low - margin, 0).astype(int).tolist()
    right, bottom = np.ceil(high + margin).astype(int).tolist()
    return Look(tuple(others), frame[top:bottom, left:right].copy(), landmarks - np.array([left, top, 0], np.float32))


def check_face(track: Track, settings: Settings) -> None:
    """Exactly one complete face throughout.

    Raises:
        Dropped: when the face is lost or cut off in too many frames, or another one is about as large.
    """
    boxes, frames = track.boxes(), len(track.landmarks)
    lost = 1 - len(boxes) / frames
    if lost > settings.most_lost:
        raise Dropped("face", "no face in sight" if lost > 0.9 else "face out of sight for too long")
    outside = (boxes[:, :2] < 0).any(1) | (boxes[:, 2:] > [track.width, track.height]).any(1)
    if lost + outside.sum() / frames > settings.most_lost:
        raise Dropped("face", "face cut off by the picture's edge")
    if any(width >= settings.rival for look in track.looks for width in look.others):
        raise Dropped("face", "several faces")


def embed(track: Track, recogniser: FaceRecogniser, count: int = 5) -> NDArray[np.float32]:
    """Recognition embeddings ``[N, 128]`` of up to ``count`` moments spread over the clip."""
    return np.stack([recogniser(look.picture, look.landmarks) for look in _spread(track.looks, count)])


def check_person(embeddings: NDArray[np.float32], settings: Settings) -> None:
    """One person throughout.

    Raises:
        Dropped: when two moments' embeddings ``[N, 128]`` are far apart.
    """
    apart = np.linalg.norm(embeddings[:, None] - embeddings, axis=-1)
    if apart.max() > settings.most_strange:
        raise Dropped("face", "another person comes into the clip")


def _spread(looks: Sequence[Look], count: int) -> list[Look]:
    chosen = np.linspace(0, len(looks) - 1, min(count, len(looks))).round().astype(int)
    return [looks[i] for i in chosen]


# 3. the crop


@dataclass(frozen=True)
class Crop:
    """A square of the raw video, whole pixels, inside of the picture."""

    x: int
    y: int
    side: int

    def apply(self, frames: Iterable[Picture], size: int) -> Iterator[Picture]:
        """The square of each frame at ``size`` pixels."""
        smooth = cv2.INTER_AREA if size < self.side else cv2.INTER_CUBIC
        for frame in frames:
            part = frame[self.y : self.y + self.side, self.x : self.x + self.side]
            yield np.asarray(cv2.resize(part, (size, size), interpolation=smooth), np.uint8)

    def landmarks(self, points: NDArray[np.float32], size: int) -> NDArray[np.float32]:
        """Meshes ``[..., 3]`` in pixels of the raw video, to pixels of the crop at ``size``."""
        return ((points - np.array([self.x, self.y, 0], np.float32)) * np.float32(size / self.side)).astype(np.float32)


def crop_head(track: Track) -> Crop:
    """One square for the whole clip, see :func:`magictalk.face.square.head_square`.

    Raises:
        Dropped: when the face moves further than one such square reaches.
    """
    boxes, picture = track.boxes(), np.array([track.width, track.height])
    low, high = boxes[:, :2].min(0).clip(0, picture), boxes[:, 2:].max(0).clip(0, picture)
    face = np.median(boxes[:, 2:] - boxes[:, :2], axis=0)
    square = head_square(low, high, face, (track.width, track.height))
    if square is None:
        raise Dropped("crop", "face moves too far for one square crop")
    return Crop(*square)


# 4. the picture


def measure_picture(track: Track, count: int = 5) -> dict[str, float]:
    """``face_px``, ``sharpness`` and ``brightness`` of the face in the raw video, medians over ``count`` looks."""
    from magictalk.metrics.functional.sharpness import BLOCK, cpbd

    sharp, bright = [], []
    for look in _spread(track.looks, count):
        low, high = look.landmarks[:, :2].min(0).clip(0).astype(int), look.landmarks[:, :2].max(0).astype(int)
        gray = cv2.cvtColor(look.picture[low[1] : high[1], low[0] : high[0]], cv2.COLOR_RGB2GRAY)
        short = np.maximum(BLOCK - np.array(gray.shape), 0)  # a head turned aside may be narrower than one block
        sharp.append(cpbd(np.pad(gray, [(0, short[0]), (0, short[1])], mode="edge")))
        bright.append(gray.mean() / 255)
    return {
        "face_px": track.face_px,
        "sharpness": float(np.median(sharp)),
        "brightness": float(np.median(bright)),
    }


def check_picture(measured: dict[str, float], settings: Settings) -> None:
    """Large, sharp and light enough; ``measured`` as :func:`measure_picture` gives it, and perhaps ``quality``.

    Raises:
        Dropped: when it is not.
    """
    if measured["face_px"] < settings.min_face_px:
        raise Dropped("quality", f"face narrower than {settings.min_face_px:g} px")
    if measured["brightness"] < settings.min_brightness:
        raise Dropped("quality", f"face darker than {settings.min_brightness:g}")
    if measured["brightness"] > settings.max_brightness:
        raise Dropped("quality", f"face brighter than {settings.max_brightness:g}")
    if measured["sharpness"] < settings.min_sharpness:
        raise Dropped("quality", f"face blurred: CPBD under {settings.min_sharpness:g}")
    if measured.get("quality", np.inf) < settings.min_quality:
        raise Dropped("quality", f"quality under {settings.min_quality:g}")


def assess(track: Track, assessor: Callable[[NDArray[np.float32]], float], count: int = 5) -> float:
    """Median score of a learned assessor, which takes RGB ``[3, H, W]`` in 0..1, over ``count`` looks."""
    return float(
        np.median(
            [assessor(np.moveaxis(k.picture, 2, 0).astype(np.float32) / 255) for k in _spread(track.looks, count)]
        )
    )


# 5. the sound


def read_sound(path: Path, start: float, frames: int) -> NDArray[np.float32]:
    """The sound of so many frames from ``start`` seconds on the file's own clock, float32 ``[frames * 640]``, 16 kHz.

    What lies before the file's beginning or after its end is silence.

    Raises:
        Dropped: when there is no sound, it cannot be read, or it ends long before the picture.
    """
    wanted = frames * FRAME_SAMPLES
    lead = max(0, round(-start * RATE))
    try:
        heard = Speech.open(path, max(0.0, start), (wanted - lead) / RATE).samples()[: wanted - lead]
    except SpeechError as error:
        raise Dropped("sound", _why_unheard(path, start)) from error
    if len(heard) < wanted - lead - RATE // 2:
        raise Dropped("sound", "sound ends before the picture")
    if np.abs(heard).max() < _SILENT:
        raise Dropped("sound", "silence")
    return np.pad(heard, (lead, wanted - lead - len(heard)))


def _why_unheard(path: Path, start: float) -> str:
    """Why no sound can be read from ``start`` seconds on."""
    import av

    if not probe(path).has_audio:
        return "no sound"
    with open_media(path, SpeechError) as container:
        origin = start_of(container)
        packets = (p for p in container.demux(container.streams.audio[0]) if p.pts is not None)
        try:
            end = max((float((p.pts + (p.duration or 0)) * p.time_base) - origin for p in packets), default=0.0)
        except av.FFmpegError:
            return "sound cannot be read"
    return "sound ends before the picture" if end <= start + 1 / FPS else "sound cannot be read"


# 6. lips against sound


def check_sync(found: Sync, settings: Settings) -> float:
    """What the lip-sync expert's findings mean: seconds by which the sound is to be moved, 0 where it fits.

    Raises:
        Dropped: when lips do not follow the sound, or are off by too much or not steadily.
    """
    from magictalk.sync import verdict

    decision, reason = verdict(found, settings.max_offset_s)
    if decision == "drop":
        raise Dropped("sync", reason)
    return found.offset_s if decision == "correct" else 0.0


def check_syncnet(found: SyncFigures, settings: Settings) -> float:
    """The same for SyncNet's findings, which do not tell whether an offset is steady.

    Raises:
        Dropped: when its confidence is low, or the sound is off by too much.
    """
    if found.confidence < settings.min_confidence:
        raise Dropped("sync", f"SyncNet's confidence under {settings.min_confidence:g}")
    if abs(found.offset_s) > settings.max_offset_s:
        raise Dropped("sync", f"sound is off by more than {settings.max_offset_s:g} s")
    return found.offset_s
