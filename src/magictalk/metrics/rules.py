"""What each figure is fed, and when: the table that evaluation follows, in the order in which figures are reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magictalk.face.pose import Pose
from magictalk.face.rig import inner_lip_gap, mouth_width
from magictalk.metrics.dynamics import ADFD
from magictalk.metrics.emotion import EmotionAccuracy
from magictalk.metrics.eyes import BlinkDuration, BlinkRate
from magictalk.metrics.flicker import Flicker
from magictalk.metrics.footage import Chunk, Frames
from magictalk.metrics.frechet import EFID, FID, FVD
from magictalk.metrics.functional.eyes import aperture
from magictalk.metrics.functional.identity import cosine
from magictalk.metrics.identity import DINO, ArcFaceSimilarity, FaceSimilarity, IdentityDrift
from magictalk.metrics.image import LPIPS, PSNR, SSIM
from magictalk.metrics.landmarks import LandmarkDistance
from magictalk.metrics.lips import MEASURES, BilabialClosure, LipCorrelation, SilentLips
from magictalk.metrics.mean import Mean
from magictalk.metrics.movement import PARTS, HeadSpectrum, SpeedDistance, SpeedRatio
from magictalk.metrics.sharpness import CPBD
from magictalk.metrics.sync import LSEC, LSED, AudioVideoOffset, SyncConfidence, SyncDistance, Verdict
from magictalk.metrics.text import CLIPT
from magictalk.motion import FPS

MISSING = {
    "reference": "needs the real video (--reference)",
    "rows": "needs more frames on either side: two (FVD: 32), with a face in sight if of the face (head spectrum: 2 s)",
    "person": "needs the real video or a picture of the person (--reference or --portrait)",
    "sound": "needs a video with sound",
    "face": "needs a face in sight",
    "verdict": "needs a face in sight and its sound, 9 frames of them",
    "text": "needs a prompt (--text)",
    "emotion": "needs the emotion that was asked for (--emotion)",
    "phonemes": "needs to know when p, b and m are said (--phonemes)",
}
"""Why a figure is not computed, by what the clip lacks."""


@dataclass(frozen=True)
class Asked:
    """What the user says of a clip.

    Attributes:
        text: the prompt.
        emotion: the one asked for.
        spans: starts and ends in seconds of every p, b and m.
    """

    text: str | None = None
    emotion: str | None = None
    spans: list[tuple[float, float]] | None = None

    @property
    def has(self) -> set[str]:
        """What of it was said."""
        given = {"text": self.text, "emotion": self.emotion, "phonemes": self.spans}
        return {name for name, value in given.items() if value is not None}


@dataclass(frozen=True, eq=False)
class Look:
    """A few frames. Costly figures see every ``every``-th of the video.

    Attributes:
        chunk: the frames.
        every: see above.
        portrait: picture RGB ``[H, W, 3]`` of the person; None where there is none.
        asked: what the user says.
    """

    chunk: Chunk
    every: int
    portrait: Frames | None
    asked: Asked

    @property
    def has(self) -> set[str]:
        """What of ``MISSING`` there is."""
        here = {"reference": self.chunk.reference is not None, "person": self.portrait is not None}
        return self.asked.has | {name for name, there in here.items() if there}

    @cached_property
    def picks(self) -> NDArray[np.int64]:
        """Which of the frames are seen, ``[t]``."""
        numbers = np.arange(len(self.chunk))
        return numbers[(self.chunk.first + numbers) % self.every == 0]

    @cached_property
    def generated(self) -> Frames:
        """Those frames, ``[t, H, W, 3]``."""
        return self.chunk.generated[self.picks]

    @cached_property
    def reference(self) -> Frames:
        """The same of the reference."""
        assert self.chunk.reference is not None
        return self.chunk.reference[self.picks]

    @property
    def neighbours(self) -> list[Frames]:
        """Each of those frames with the one after it, ``[2, H, W, 3]``."""
        return [self.chunk.generated[i : i + 2] for i in self.picks if i + 1 < len(self.chunk)]


@dataclass(frozen=True, eq=False)
class Piece:
    """A stretch of the clip as figures over time see it: meshes and sound instead of pictures.

    Attributes:
        start: second of the clip at which it begins.
        landmarks: float32 ``[T, 478, 3]`` px; NaN where no face is seen.
        real_landmarks: the same of the reference, or None.
        size: height and width of the picture.
        samples: its sound at 16 kHz, ``[N]``; empty where there is none.
        verdicts: of the judges of sync, by name; none where there is no sound or no face to judge.
        faces: pictures of the face, ``[n, 224, 224, 3]``.
        asked: what the user says.
    """

    start: float
    landmarks: NDArray[np.float32]
    real_landmarks: NDArray[np.float32] | None
    size: tuple[int, int]
    samples: NDArray[np.float32]
    verdicts: Mapping[str, Verdict]
    faces: Frames
    asked: Asked

    @property
    def has(self) -> set[str]:
        """What of ``MISSING`` there is."""
        here = {
            "reference": self.real_landmarks is not None,
            "face": bool(self.seen.any()),
            "sound": len(self.samples) > 0,
            "verdict": bool(self.verdicts),
        }
        return self.asked.has | {name for name, there in here.items() if there}

    @cached_property
    def seen(self) -> NDArray[np.bool_]:
        """Frames with a face, ``[T]``; in both videos where there are two."""
        seen = np.isfinite(self.landmarks).all((1, 2))
        return seen if self.real_landmarks is None else seen & np.isfinite(self.real_landmarks).all((1, 2))

    @cached_property
    def faces_in_place(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Both videos' meshes of the frames that are ``seen``, in face space ``[n, 478, 3]``, real ones second."""
        assert self.real_landmarks is not None
        ours, theirs = self.landmarks[self.seen], self.real_landmarks[self.seen]
        return Pose.fit_sequence(ours).to_face(ours), Pose.fit_sequence(theirs).to_face(theirs)

    @property
    def spans(self) -> list[tuple[float, float]]:
        """Starts and ends of p, b and m in seconds since the piece's beginning."""
        end = self.start + len(self.landmarks) / FPS
        inside = [(a, b) for a, b in self.asked.spans or () if a < end and b > self.start]
        return [(a - self.start, b - self.start) for a, b in inside]

    @property
    def diagonal_px(self) -> float:
        """Of the picture."""
        return float(np.hypot(*self.size))


@dataclass(frozen=True, eq=False)
class Whole:
    """The clip from its beginning to its end, as figures of identity see it.

    Attributes:
        embeddings: of the seen frames ``[n, D]`` (NaN without a face), by recogniser.
        person: of the person who should be seen ``[D]``, by recogniser; empty where that is not known.
        fps: seen frames a second.
    """

    embeddings: Mapping[str, NDArray[np.float32]]
    person: Mapping[str, NDArray[np.float32]]
    fps: float

    @property
    def has(self) -> set[str]:
        """What of ``MISSING`` there is."""
        face = any(np.isfinite(e).any() for e in self.embeddings.values())
        return ({"face"} if face else set()) | ({"person"} if self.person else set())

    @property
    def likeness(self) -> NDArray[np.float64]:
        """Cosine ``[n]`` with the person, or with the first face of the clip where nobody is given."""
        embeddings = self.embeddings["dlib"]
        first = embeddings[np.isfinite(embeddings).all(1)][:1]
        return cosine(embeddings, self.person.get("dlib", first[0]))


class FacesLost(Mean):
    """Share of frames without a face, in either video; landmark figures leave them out."""

    figure = "faces lost"
    higher_is_better = False

    def update(self, seen: NDArray[np.bool_]) -> None:
        """Take which frames show a face, ``[T]``."""
        self.add(~seen)


@dataclass(frozen=True, eq=False)
class Rule:
    """How a figure comes about.

    Attributes:
        kind: its class.
        of: what it is fed: a few frames, a piece, the whole clip; None for a figure of all clips together.
        feed: hands the metric what it needs of that.
        takes: what of ``MISSING`` there must be.
        tool: the shared network it depends on: a recogniser or a judge of sync.
        options: of the class.
        rows: for a figure of all clips together: the name of each clip's features that it is made of.
    """

    kind: type[Any]
    of: type[Look] | type[Piece] | type[Whole] | None
    feed: Callable[[Any, Any], None]
    takes: tuple[str, ...] = ()
    tool: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    rows: str = ""

    @cached_property
    def figure(self) -> str:
        """Its name; some classes know theirs only when they are made."""
        return str(self.kind.figure if hasattr(self.kind, "figure") else self.kind(**self.options).figure)


def _together(kind: type[Any], rows: str, **options: Any) -> Rule:
    """A figure of all clips together against all real ones, which is made of their features at the end."""
    return Rule(kind, None, lambda metric, view: None, ("reference",), options=options, rows=rows)


def _lips(measure: str) -> Rule:
    def feed(metric: LipCorrelation, piece: Piece) -> None:
        metric.update(*piece.faces_in_place)

    return Rule(LipCorrelation, Piece, feed, ("reference", "face"), options={"measure": measure})


def _flicker(metric: Flicker, look: Look) -> None:
    for pair in look.neighbours:
        metric.update(pair)


RULES = (
    Rule(PSNR, Look, lambda m, x: m.update(x.generated, x.reference), ("reference",)),
    Rule(SSIM, Look, lambda m, x: m.update(x.generated, x.reference), ("reference",)),
    Rule(LPIPS, Look, lambda m, x: m.update(x.generated, x.reference), ("reference",)),
    _together(FID, "FID"),
    _together(FVD, "FVD"),
    _together(EFID, "coefficients"),
    Rule(CPBD, Look, lambda m, x: m.update(x.generated)),
    Rule(LandmarkDistance, Piece, lambda m, x: m.update(x.landmarks, x.real_landmarks), ("reference", "face"),
         options={"mouth": True}),
    Rule(LandmarkDistance, Piece, lambda m, x: m.update(x.landmarks, x.real_landmarks), ("reference", "face")),
    Rule(ADFD, Piece, lambda m, x: m.update(x.landmarks, x.real_landmarks, x.diagonal_px), ("reference", "face")),
    Rule(LSED, Piece, lambda m, x: m.update(x.verdicts["syncnet"]), ("verdict",), "syncnet"),
    Rule(LSEC, Piece, lambda m, x: m.update(x.verdicts["syncnet"]), ("verdict",), "syncnet"),
    Rule(SyncDistance, Piece, lambda m, x: m.update(x.verdicts["sync"]), ("verdict",), "sync"),
    Rule(SyncConfidence, Piece, lambda m, x: m.update(x.verdicts["sync"]), ("verdict",), "sync"),
    Rule(AudioVideoOffset, Piece, lambda m, x: m.update(x.verdicts["sync"]), ("verdict",), "sync"),
    Rule(FaceSimilarity, Whole, lambda m, x: m.update(x.embeddings["dlib"], x.person["dlib"]), ("face", "person"),
         "dlib"),
    Rule(ArcFaceSimilarity, Whole, lambda m, x: m.update(x.embeddings["arcface"], x.person["arcface"]),
         ("face", "person"), "arcface"),
    Rule(DINO, Look, lambda m, x: m.update(x.generated, x.portrait), ("person",)),
    Rule(CLIPT, Look, lambda m, x: m.update(x.generated, x.asked.text), ("text",)),
    Rule(EmotionAccuracy, Piece, lambda m, x: m.update(x.faces, x.asked.emotion), ("emotion", "face")),
    Rule(BilabialClosure, Piece,
         lambda m, x: m.update(inner_lip_gap(x.landmarks), mouth_width(x.landmarks), x.spans), ("phonemes", "face")),
    Rule(SilentLips, Piece,
         lambda m, x: m.update(inner_lip_gap(x.landmarks), mouth_width(x.landmarks), x.samples), ("sound", "face")),
    *(_lips(measure) for measure in MEASURES),
    Rule(BlinkRate, Piece, lambda m, x: m.update(aperture(x.landmarks)), ("face",)),
    Rule(BlinkDuration, Piece, lambda m, x: m.update(aperture(x.landmarks)), ("face",)),
    *(_together(SpeedRatio, PARTS[part].rows, part=part) for part in PARTS),
    *(_together(SpeedDistance, PARTS[part].rows, part=part) for part in PARTS),
    _together(HeadSpectrum, "rotation"),
    Rule(Flicker, Look, _flicker),
    Rule(IdentityDrift, Whole, lambda m, x: m.update(x.likeness, x.fps), ("face",), "dlib"),
    Rule(FacesLost, Piece, lambda m, x: m.update(x.seen)),
)  # fmt: skip
"""All figures, in the order of the papers' tables, then what they lack."""
