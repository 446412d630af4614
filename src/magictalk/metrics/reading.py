"""A clip read once, in bounded memory, with its face tracked: what figures are fed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from magictalk.errors import VideoError
from magictalk.face.landmarks import LANDMARKS, FaceDetector, FaceTracker
from magictalk.metrics.footage import CHUNK, Footage, Frames, fit_to, side_by_side
from magictalk.metrics.functional.sharpness import BLOCK
from magictalk.metrics.rules import Asked, Look, Piece, Whole
from magictalk.metrics.sync import Verdict
from magictalk.motion import FPS
from magictalk.portrait import Portrait
from magictalk.speech import RATE

PIECE = 100 * CHUNK
"""Frames that figures over time see at once (64 s); a longer video is judged in such pieces.

All pieces count the same, so what is left of less than a sixth of that joins the piece before it.
"""
SETTLING = 4
"""Times that a video's first frame is shown to the tracker, whose mesh creeps into place on a face new to it."""
SHORTEST = 9
"""Frames below which nobody judges sync."""
FACE_SIDE = 224
"""Pixels of a face as classifiers of emotion get it."""

Meshes = NDArray[np.float32]
Recogniser = Callable[[Frames, Meshes], NDArray[np.float32]]


class Judge(Protocol):
    """Of sync: ``SyncJudge`` and ``SyncNetJudge``."""

    def of_frames(self, frames: Iterator[Frames], landmarks: Meshes, samples: NDArray[np.float32]) -> Verdict:
        """What it says of frames ``[H, W, 3]`` with their meshes ``[T, 478, 3]`` px and sound ``[N]`` at 16 kHz."""
        ...


@dataclass(frozen=True, eq=False)
class Person:
    """Who should be seen: a picture RGB ``[H, W, 3]`` and the mesh ``[478, 3]`` px of the face in it."""

    image: Frames
    landmarks: Meshes

    @staticmethod
    def of(portrait: Portrait) -> Person:
        """The person of a portrait."""
        return Person(portrait.image, portrait.landmarks)


@dataclass
class _Notes:
    """What was seen since the last piece began."""

    landmarks: list[Meshes] = field(default_factory=list)
    real: list[Meshes] = field(default_factory=list)
    faces: list[Frames] = field(default_factory=list)

    @property
    def frames(self) -> int:
        return sum(map(len, self.landmarks))

    def __add__(self, other: _Notes) -> _Notes:
        return _Notes(self.landmarks + other.landmarks, self.real + other.real, self.faces + other.faces)


class _Sound:
    """A clip's sound, piece by piece."""

    def __init__(self, footage: Footage) -> None:
        self._chunks = iter(()) if footage.speech is None else footage.speech.chunks()
        self._left = np.zeros(0, np.float32)

    def take(self, samples: int) -> NDArray[np.float32]:
        """The next samples, fewer at the end."""
        parts = [self._left]
        while sum(map(len, parts)) < samples and (chunk := next(self._chunks, None)) is not None:
            parts.append(chunk)
        whole = np.concatenate(parts)
        self._left = whole[samples:]
        return whole[:samples]


class Reader:
    """Reads clips one after the other.

    Args:
        every: costly figures look at every so many frames.
        recognisers: a picture and its mesh to an embedding, by name.
        judges: of sync, by name.
    """

    def __init__(self, every: int, recognisers: Mapping[str, Recogniser], judges: Mapping[str, Judge]) -> None:
        self.detector = FaceDetector()
        self._every, self._recognisers, self._judges = every, recognisers, judges
        self._trackers = FaceTracker(self.detector), FaceTracker(self.detector)

    def __call__(
        self,
        generated: Footage,
        reference: Footage | None,
        person: Person | None,
        asked: Asked,
        remark: Callable[[str], None],
    ) -> Iterator[Look | Piece | Whole]:
        """The clip in a few frames at a time, after each stretch a piece, and at the end the whole.

        Args:
            generated: the video.
            reference: the real one.
            person: who it should be; by default whom the reference shows first.
            asked: what was asked of the video.
            remark: told what is odd.

        Raises:
            VideoError, SpeechError: a file cannot be read, or its picture is less than 64 pixels high or wide.
        """
        for tracker in self._trackers:
            tracker.reset()
        sound = _Sound(generated)
        again = {name: generated.frames() for name in self._judges}  # judges read the frames a second time
        notes, waiting, told = _Notes(), _Notes(), 0
        likeness: dict[str, list[NDArray[np.float32] | None]] = {name: [] for name in self._recognisers}
        shape: tuple[int, ...] = ()

        def piece(notes: _Notes) -> Piece:
            samples = sound.take(round(notes.frames / FPS * RATE))
            landmarks = np.concatenate(notes.landmarks)
            frames = {name: (fit_to(shape, f) for f in islice(all_, len(landmarks))) for name, all_ in again.items()}
            return Piece(
                start=told / FPS,
                landmarks=landmarks,
                real_landmarks=np.concatenate(notes.real) if notes.real else None,
                size=(shape[0], shape[1]),
                samples=samples,
                verdicts=self._verdicts(frames, landmarks, samples),
                faces=np.concatenate(notes.faces),
                asked=asked,
            )

        for chunk in side_by_side(generated, reference, remark):
            shape = chunk.generated.shape[1:]
            if min(shape[:2]) < BLOCK:
                smallest = (reference or generated).name
                raise VideoError(f"{smallest} is {shape[1]}x{shape[0]} px; expected at least {BLOCK}x{BLOCK}")
            landmarks = self._track(0, chunk.generated, chunk.first)
            notes.landmarks.append(landmarks)
            if reference is not None and chunk.reference is not None:
                known = reference.landmarks
                notes.real.append(
                    self._track(1, chunk.reference, chunk.first)
                    if known is None
                    else known[chunk.first : chunk.first + len(chunk)]
                )
                person = person or _first(chunk.reference, notes.real[-1])
            look = Look(chunk, self._every, None if person is None else person.image, asked)
            yield look
            seen = [(frame, mesh) for frame, mesh in zip(look.generated, landmarks[look.picks], strict=True)]
            for name, recognise in self._recognisers.items():
                likeness[name] += [recognise(*face) if np.isfinite(face[1]).all() else None for face in seen]
            notes.faces.append(_faces(seen, asked.emotion is not None))
            if waiting.frames and notes.frames >= PIECE // 6:
                yield piece(waiting)
                told, waiting = told + waiting.frames, _Notes()
            if notes.frames >= PIECE:
                waiting, notes = notes, _Notes()
        if waiting.frames or notes.frames:
            yield piece(waiting + notes)
        people = {} if person is None else {n: r(person.image, person.landmarks) for n, r in self._recognisers.items()}
        yield Whole({name: _rows(found) for name, found in likeness.items()}, people, FPS / self._every)

    def track(self, footage: Footage) -> Meshes:
        """Meshes ``[T, 478, 3]`` of a video alone, as :meth:`__call__` finds them; NaN where no face is seen.

        Raises:
            VideoError: it cannot be read, or holds no frame.
        """
        self._trackers[0].reset()
        chunks = side_by_side(footage, None, lambda remark: None)
        return np.concatenate([self._track(0, chunk.generated, chunk.first) for chunk in chunks])

    def _track(self, role: int, frames: Frames, first: int) -> Meshes:
        """Meshes ``[t, 478, 3]`` of frames from number ``first`` on; NaN where no face is seen."""
        for _ in range(SETTLING if first == 0 else 0):
            self._trackers[role](frames[0])
        found = [self._trackers[role](frame) for frame in frames]
        empty = np.full((LANDMARKS, 3), np.nan, np.float32)
        return np.stack([empty if face is None else face.landmarks for face in found])

    def _verdicts(
        self, frames: Mapping[str, Iterator[Frames]], landmarks: Meshes, samples: NDArray[np.float32]
    ) -> dict[str, Verdict]:
        can = min(len(landmarks), len(samples) * FPS / RATE) >= SHORTEST and bool(np.isfinite(landmarks).any())
        verdicts = {}
        for name, judge in self._judges.items():
            if can:
                verdicts[name] = judge.of_frames(frames[name], landmarks, samples)
            for _ in frames[name]:  # the next piece goes on after this one, whatever the judge left
                pass
        return verdicts


def _first(frames: Frames, landmarks: Meshes) -> Person | None:
    """Who is seen first."""
    seen = np.flatnonzero(np.isfinite(landmarks).all((1, 2)))
    return Person(frames[seen[0]].copy(), landmarks[seen[0]]) if len(seen) else None


def _rows(embeddings: list[NDArray[np.float32] | None]) -> NDArray[np.float32]:
    """Embeddings as ``[n, D]``; NaN in place of None."""
    size = next((len(e) for e in embeddings if e is not None), 1)
    return np.array([np.full(size, np.nan, np.float32) if e is None else e for e in embeddings], np.float32)


def _faces(seen: list[tuple[Frames, Meshes]], wanted: bool) -> Frames:
    """Squares ``[n, 224, 224, 3]`` around the faces, where anybody wants them."""
    made = [np.zeros((0, FACE_SIDE, FACE_SIDE, 3), np.uint8)]
    for frame, mesh in seen if wanted else ():
        if np.isfinite(mesh).all():
            low, high = mesh[:, :2].min(0), mesh[:, :2].max(0)
            side = float((high - low).max()) * 1.2
            left, top = (low + high - side) / 2
            scale = FACE_SIDE / side
            to_face = np.array([[scale, 0, -scale * left], [0, scale, -scale * top]])
            made.append(cv2.warpAffine(frame, to_face, (FACE_SIDE, FACE_SIDE), flags=cv2.INTER_AREA)[None])
    return np.concatenate(made)
