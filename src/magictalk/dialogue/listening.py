"""What a character does about the others: turns toward who speaks, nods where they pause, feels a little with them.

A layer over the motion of the character's own drive, which gives blinks, breath and all of its own speech. Everything
follows from the turns and a seed, and comes in chunks, so that a long dialogue takes the memory of a short one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from magictalk.dialogue.turns import Turn
from magictalk.drive.idle import NECK
from magictalk.motion import ARKIT, FPS, GROUPS, Motion
from magictalk.style import Style, strongest

LOOK = np.radians(24.0)
"""Angle between the viewer and a neighbour, as far as eyes and head turn for one together."""
HEAD_SHARE = 0.42
"""Of that angle, the head's; the eyes do the rest. A single picture has no more of a head to show."""
SPEAKING_SHARE = 0.4
"""Who speaks looks at the other by this much of the angle, and so half at the viewer."""

_EYE = np.radians(35.0)
"""What an ``eyeLook`` coefficient of 1 turns the eye by, about."""
_NOD_HZ = 1.9
_NOD_GAP = 35
"""Frames between nods at least."""
_NOD_CHANCE = {"angry": 0.2, "disgust": 0.2, "contempt": 0.2, "fear": 0.4}
"""How likely a phrase said in this mood is answered by a nod; others 0.7."""
_SHARED = {"happy": 0.35, "surprised": 0.25, "sad": 0.3, "fear": 0.2}
"""How much of a speaker's mood shows on who listens."""
_BEFORE, _AFTER = (5, 2), (2, 8)
"""Frames around a turn in which the lips wake (from, until) before it and come to rest (from, until) after it."""

_AT = {name: i for i, name in enumerate(ARKIT)}
_KEPT = ("mouthSmile", "mouthFrown", "mouthDimple", "mouthLeft", "mouthRight")
_OPENING = [i for i in GROUPS["lips"] if not ARKIT[i].startswith(_KEPT)]
"""What opens or shapes a mouth for speech; the corners belong to the mood and stay."""


def seats(names: Sequence[str]) -> dict[str, float]:
    """Where characters sit, from -1 at the left of the picture to 1 at its right, in their order."""
    return dict(zip(names, np.linspace(-1, 1, len(names)).tolist(), strict=True))


class Listening:
    """One character's part in a dialogue.

    Args:
        turns: of everybody.
        who: this character.
        seats: where each sits, see :func:`seats`.
        yaw: where the head of the picture looks by itself, radians, positive to the right of the picture.
        seed: of reaction times and nods.
    """

    def __init__(self, turns: Sequence[Turn], who: str, seats: Mapping[str, float], yaw: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._own = [turn for turn in turns if turn.who == who]
        self._attention = _attention(turns, who, seats, rng)
        self._nods = _nods(turns, who, rng)
        self._empathy = _empathy(turns, who)
        self._yaw = yaw

    def __call__(self, motions: Iterator[Motion]) -> Iterator[Motion]:
        """The motion of the character's own drive, and this over it; same chunks."""
        eyes, head, mood = _Follower(0.05), _Follower(0.16), _Follower(0.35)
        at = 0
        for motion in motions:
            frames = np.arange(at, at + len(motion))
            goal = self._attention.at(frames)
            turned = head(self._head_goal(goal))
            layer = _turn(turned[:, 0], self.nod(frames))
            layer.coefficients[:] = mood(self._empathy.at(frames))
            _look(layer.coefficients, eyes(goal)[:, 0] - turned[:, 0])
            quiet = motion.coefficients.copy()
            quiet[:, _OPENING] *= self.speaking(frames)[:, None]
            yield Motion(quiet, motion.head, motion.fps) + layer
            at += len(motion)

    def speaking(self, frames: NDArray[np.int64]) -> NDArray[np.float32]:
        """How much the character speaks at some frames, ``[T]``, 0..1: 1 in its turns, smoothly 0 elsewhere."""
        weight = np.zeros(len(frames))
        for turn in self._own:
            if frames[0] - _AFTER[1] <= turn.end and turn.start <= frames[-1] + _BEFORE[0]:
                places = turn.start - _BEFORE[0], turn.start - _BEFORE[1], turn.end + _AFTER[0], turn.end + _AFTER[1]
                weight = np.maximum(weight, np.interp(frames, places, (0, 1, 1, 0)))
        return (weight * weight * (3 - 2 * weight)).astype(np.float32)

    def nod(self, frames: NDArray[np.int64]) -> NDArray[np.float64]:
        """Pitch of the head for nods at some frames, radians ``[T]``, positive is down."""
        pitch = np.zeros(len(frames))
        for nod in self._nods:
            if nod.start <= frames[-1] and frames[0] < nod.start + nod.frames:
                pitch += nod.pitch(frames)
        return pitch

    def _head_goal(self, goal: NDArray[np.float64]) -> NDArray[np.float64]:
        """The head's part of a look; a head that already looks there turns less, one that looks away more."""
        wished = HEAD_SHARE * goal
        return np.where(goal == 0, 0.0, np.clip(wished - 0.5 * self._yaw, -1.3 * abs(wished), 1.3 * abs(wished)))


@dataclass(frozen=True)
class _Steps:
    """A value that jumps: ``values[i]`` holds from frame ``frames[i]`` on, and 0 before the first."""

    frames: NDArray[np.int64]
    values: NDArray[np.float64]

    def at(self, frames: NDArray[np.int64]) -> NDArray[np.float64]:
        index = np.searchsorted(self.frames, frames, "right")
        return np.concatenate([np.zeros_like(self.values[:1]), self.values])[index]


@dataclass(frozen=True)
class _Nod:
    start: int
    depth: float
    cycles: int

    @property
    def frames(self) -> int:
        return int(np.ceil(self.cycles / _NOD_HZ * FPS))

    def pitch(self, frames: NDArray[np.int64]) -> NDArray[np.float64]:
        """Down and up again, each time less deep."""
        cycle = ((frames - self.start) / FPS * _NOD_HZ).clip(0, self.cycles)
        return self.depth * 0.6 ** np.floor(cycle) * (1 - np.cos(2 * np.pi * cycle)) / 2


class _Follower:
    """Two equal first-order filters: a value that goes after its goal, with no jump of speed."""

    def __init__(self, seconds: float) -> None:
        keep = float(np.exp(-1 / (seconds * FPS)))
        self._filter = [(1 - keep) ** 2], [1.0, -2 * keep, keep * keep]
        self._state: NDArray[np.float64] | None = None

    def __call__(self, goal: NDArray[np.float64]) -> NDArray[np.float64]:
        """Goals ``[T, n]`` to values ``[T, n]``; goes on where the last call ended."""
        state = np.zeros((2, goal.shape[1])) if self._state is None else self._state
        value, self._state = lfilter(*self._filter, goal, axis=0, zi=state)
        return np.asarray(value)


def _attention(turns: Sequence[Turn], who: str, seats: Mapping[str, float], rng: np.random.Generator) -> _Steps:
    """Where to look, radians ``[N, 1]``: at who speaks, a moment after they begin; when speaking, half at the other."""
    frames, goals = [0], [0.0]
    for turn in turns:
        own = turn.who == who
        delay = -4 if own else int(rng.integers(3, 11))
        other = turn.to if own else turn.who
        side = np.sign(seats[other] - seats[who])
        # those who sit further along are looked at only a little further round
        far = 0.85 + 0.15 * abs(seats[other] - seats[who]) / 2
        frames.append(max(frames[-1], turn.start + delay))
        goals.append(float(side * far * LOOK * (SPEAKING_SHARE if own else 1.0)))
    return _Steps(np.array(frames), np.array(goals)[:, None])


def _nods(turns: Sequence[Turn], who: str, rng: np.random.Generator) -> list[_Nod]:
    """Nods a little after phrases of others end, unless this character is about to speak."""
    nods: list[_Nod] = []
    free = 0
    mine = [turn.start for turn in turns if turn.who == who]
    for turn in (turn for turn in turns if turn.who != who):
        for end in turn.pauses:
            chance, delay, depth = rng.random(), int(rng.integers(3, 8)), float(np.radians(rng.uniform(4.0, 7.0)))
            nod = _Nod(end + delay, depth, 1 + int(rng.random() < 0.4))
            speaks_soon = any(nod.start - 5 <= start <= nod.start + nod.frames for start in mine)
            mood = strongest(turn.emotion or "neutral")
            # whom it is said to nods more than the rest
            likely = _NOD_CHANCE.get(mood, 0.7) * (1.0 if turn.to == who else 0.5)
            if nod.start >= free and not speaks_soon and chance < likely:
                nods.append(nod)
                free = nod.start + nod.frames + _NOD_GAP
    return nods


def _empathy(turns: Sequence[Turn], who: str) -> _Steps:
    """What of the others' moods shows on this face, ``[N, 52]``; it wears off as the turn ends."""
    frames, faces = [0], [np.zeros(len(ARKIT))]
    for turn in turns:
        face = np.zeros(len(ARKIT))
        mood = strongest(turn.emotion or "neutral")
        if turn.who != who and turn.emotion and mood in _SHARED:
            face = _SHARED[mood] * Style.parse(turn.emotion).expression(np.zeros(1))[0]
            face[_OPENING] = 0
        frames.append(turn.start + 10)
        faces.append(face)
    frames.append(turns[-1].end)
    faces.append(np.zeros(len(ARKIT)))
    return _Steps(np.array(frames), np.stack(faces))


def _turn(yaw: NDArray[np.float64], pitch: NDArray[np.float64]) -> Motion:
    """A head that turns and nods on its neck."""
    head = np.zeros((len(yaw), 6))
    head[:, 0], head[:, 1] = pitch, yaw
    head[:, 3:] = -np.cross(head[:, :3], NECK)
    return Motion(np.zeros((len(yaw), len(ARKIT)), np.float32), head.astype(np.float32))


def _look(coefficients: NDArray[np.float32], angle: NDArray[np.float64]) -> None:
    """Turn both eyes in place, radians ``[T]``, positive to the right of the picture, which is the person's left."""
    amount = (angle / _EYE).clip(-1, 1)
    coefficients[:, [_AT["eyeLookOutLeft"], _AT["eyeLookInRight"]]] = np.maximum(0, amount)[:, None]
    coefficients[:, [_AT["eyeLookInLeft"], _AT["eyeLookOutRight"]]] = np.maximum(0, -amount)[:, None]
