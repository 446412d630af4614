"""What systems are benchmarked on: which portrait is to say what, and what really happened, where that is known."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from PIL import Image

from magictalk.data.dataset import Dataset
from magictalk.data.sources import unique_keys
from magictalk.errors import DatasetError, MagicTalkError
from magictalk.face.landmarks import FaceDetector
from magictalk.metrics.footage import Footage, Frames
from magictalk.motion import FPS
from magictalk.portrait import Portrait
from magictalk.speech import RATE, Speech
from magictalk.video import read_frames

PROTOCOLS = {
    "self": "Self-reenactment: the first frame of each test clip says what is said in it; judged against the clip",
    "cross": "Cross-identity: the first frame of each test clip says what somebody else says in another",
    "grid": "Open set: every portrait says what every voice says",
}
"""Names and what they mean."""
GRID_SIDE = 20
"""Portraits and voices of the open set (MCDM, section 4.1)."""
PORTRAIT_SIDE = 512
"""Pixels of an open-set portrait, which is cut around the head so that every system gets the same."""
_HEAD = 2.1
"""Side of that square, in the longer sides of the face."""


class Voice(Protocol):
    """Something that is heard."""

    @property
    def key(self) -> str: ...

    def speech(self) -> Speech:
        """The sound."""
        ...


@dataclass(frozen=True)
class TestClip:
    """A clip of the test split, unpacked into a folder.

    Attributes:
        key: its name.
        identity: who is seen.
        folder: where its video and what is known of it lie.
    """

    __test__ = False  # the name is not pytest's

    key: str
    identity: str
    folder: Path

    @property
    def path(self) -> Path:
        """Its video."""
        return self.folder / f"{self.key}.mp4"

    def speech(self) -> Speech:
        """Its sound."""
        with np.load(self.folder / f"{self.key}.npz", allow_pickle=False) as data:
            return Speech.from_array(data["samples"], RATE)

    def footage(self) -> Footage:
        """The real video, its face tracked."""
        with np.load(self.folder / f"{self.key}.npz", allow_pickle=False) as data:
            landmarks = data["landmarks"]
        return Footage(self.key, lambda: read_frames(self.path, FPS), self.speech(), landmarks)

    def portrait(self, detector: FaceDetector) -> Portrait:
        """Who is seen in its first frame."""
        return Portrait.from_array(next(read_frames(self.path, FPS)), detector=detector)


@dataclass(frozen=True)
class VoiceFile:
    """The beginning of a sound file, and the name that it goes by."""

    key: str
    path: Path
    seconds: float

    def speech(self) -> Speech:
        """The sound."""
        return Speech.open(self.path, 0.0, self.seconds)


@dataclass(frozen=True)
class Picture:
    """An open-set portrait, cut to :data:`PORTRAIT_SIDE`."""

    path: Path

    @property
    def key(self) -> str:
        """Its name."""
        return self.path.stem

    def portrait(self, detector: FaceDetector) -> Portrait:
        """The person."""
        return Portrait.open(self.path, detector=detector)


@dataclass(frozen=True)
class Case:
    """One video to make and to judge.

    Attributes:
        who: whose portrait.
        says: whose words.
        real: the clip that shows what really happened; None where nobody knows.
    """

    who: TestClip | Picture
    says: Voice
    real: TestClip | None = None

    @cached_property
    def key(self) -> str:
        """Its name."""
        return self.who.key if self.real else f"{self.who.key}+{self.says.key}"


def unpack(dataset: Dataset, folder: Path) -> list[TestClip]:
    """The clips of a dataset as files in ``folder``; those that are there already are left alone.

    Raises:
        DatasetError: when a shard is damaged.
    """
    clips = [TestClip(record.key, record.identity, folder) for record in dataset.records]
    if all(clip.path.is_file() for clip in clips):
        return clips
    folder.mkdir(parents=True, exist_ok=True)
    for clip, sample in zip(clips, dataset, strict=True):
        landmarks = np.where(sample.seen[:, None, None], sample.landmarks, np.nan)
        part = folder / f".{clip.key}.{os.getpid()}.npz"
        np.savez(part, samples=sample.samples, landmarks=landmarks)
        part.replace(folder / f"{clip.key}.npz")
        part.write_bytes(sample.video)
        part.replace(clip.path)  # last: a clip whose video is there is whole
    return clips


def self_reenactment(clips: Sequence[TestClip]) -> list[Case]:
    """Every clip's first frame with the clip's own sound."""
    return [Case(clip, clip, clip) for clip in clips]


def cross_identity(clips: Sequence[TestClip]) -> list[Case]:
    """Every clip's first frame with the sound of the next clip that shows somebody else.

    Raises:
        DatasetError: when all show one person.
    """
    cases = []
    for i, clip in enumerate(clips):
        others = [other for other in (*clips[i + 1 :], *clips[:i]) if other.identity != clip.identity]
        if not others:
            raise DatasetError(
                f"all {len(clips)} test clips show {clip.identity!r}; protocol cross expects two people or more, give "
                "--protocol self to go without it"
            )
        cases.append(Case(clip, others[0]))
    return cases


def open_set(
    portraits: Path, voices: Path, seconds: float, folder: Path, detector: FaceDetector
) -> tuple[list[Case], list[str]]:
    """The first 20 usable portraits, cut to their heads, with the first 20 usable voices, each with each.

    Args:
        portraits: folder of pictures.
        voices: folder of sounds.
        seconds: of each voice.
        folder: where the cut pictures go.
        detector: finds faces.

    Returns:
        The cases, and remarks on files that were passed over.

    Raises:
        DatasetError: when a folder is missing, or nothing in it can be used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    passed: list[str] = []
    people: list[Picture] = []
    for key, path in _files(portraits):
        if len(people) == GRID_SIDE:
            break
        try:
            portrait = Portrait.open(path, detector=detector)
            picture = Picture(folder / f"{key}.png")
            Image.fromarray(head_crop(portrait)).save(picture.path)
            picture.portrait(detector)
        except MagicTalkError as error:
            passed.append(f"passed over: {error}")
        else:
            people.append(picture)
    sounds: list[VoiceFile] = []
    for key, path in _files(voices):
        if len(sounds) == GRID_SIDE:
            break
        voice = VoiceFile(key, path, seconds)
        try:
            voice.speech()
        except MagicTalkError as error:
            passed.append(f"passed over: {error}")
        else:
            sounds.append(voice)
    for what, found, where in (("portrait", people, portraits), ("voice", sounds, voices)):
        if not found:
            raise DatasetError(f"no usable {what} in {where}; {passed[-1] if passed else 'it holds no file'}")
    return [Case(who, voice) for who in people for voice in sounds], passed


def _files(folder: Path) -> list[tuple[str, Path]]:
    """The files in a folder, each with a name of its own: ``a.jpg`` and ``a.png`` are two."""
    if not folder.is_dir():
        raise DatasetError(f"no folder at {folder}; expected one of portraits or voices")
    paths = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    return list(zip(unique_keys([path.name for path in paths]), paths, strict=True))


def head_crop(portrait: Portrait) -> Frames:
    """The square around the head ``[512, 512, 3]``; it stays inside of the picture."""
    height, width = portrait.image.shape[:2]
    x, y, w, h = portrait.face.box
    side = min(_HEAD * max(w, h), height, width)
    left = np.clip(x + w / 2 - side / 2, 0, width - side)
    top = np.clip(y + 0.45 * h - side / 2, 0, height - side)
    part = portrait.image[round(top) : round(top + side), round(left) : round(left + side)]
    way = cv2.INTER_AREA if side > PORTRAIT_SIDE else cv2.INTER_LANCZOS4
    return np.asarray(cv2.resize(part, (PORTRAIT_SIDE, PORTRAIT_SIDE), interpolation=way), np.uint8)
