"""What a face does besides talking: it blinks, looks about, breathes, and moves the head with its speech.

Everything is drawn from one seed and from the loudness of the sound, frame after frame, so that chunks of
any size give the same motion and an hour takes the memory of a second. Amplitudes and speeds follow what the
pose fit measures on the training videos (medians: 2.1 degrees of pitch, 2.3 of yaw, 1.8 of roll; 11, 10 and 6
degrees a second), the spread kept to two thirds and slower, because unmeant motion reads as nervous.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from magictalk.errors import OptionError
from magictalk.motion import ARKIT, FPS, Motion

if TYPE_CHECKING:
    from magictalk.speech import Speech

FRAME_SAMPLES = 640
CHUNK_FRAMES = 50
AHEAD_FRAMES = 5
"""Loudness this far ahead shapes a frame: heads and brows rise with a stress, not after it."""

LARGEST_SEED = 2**32 - 1
"""What any generator of random numbers takes."""

NECK = np.array([0.0, -0.9, -1.35])
"""Where the skull sits on the neck, face space."""
_AT = {name: i for i, name in enumerate(ARKIT)}
_BLINK = np.array([0.35, 0.85, 1.0, 0.8, 0.5, 0.25, 0.08], np.float32)
"""A blink at 25 fps: shut within 80 ms, open again within 160 ms."""


class _Drift:
    """Smooth random motion: white noise through two equal first-order filters.

    Args:
        std: standard deviation of the result.
        seconds: time constant of each filter.
    """

    def __init__(self, rng: np.random.Generator, std: float, seconds: float) -> None:
        self._rng = rng
        self._keep = float(np.exp(-1 / (seconds * FPS)))
        a = self._keep
        # variance of the cascade driven by unit noise: (1 + a^2) / (1 - a^2)^3
        self._gain = std / np.sqrt((1 + a * a) / (1 - a * a) ** 3)
        self._first = self._second = 0.0

    def step(self) -> float:
        self._first = self._keep * self._first + self._gain * self._rng.standard_normal()
        self._second = self._keep * self._second + self._first
        return self._second


class _Blinks:
    """15 to 20 blinks a minute, seldom less than a second apart, rather where a phrase ends."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._since = float(rng.uniform(0.0, 2.0))  # seconds since the last one ended
        self._frame = -1
        self._depth = 1.0

    def step(self, phrase_end: bool, shift: bool) -> float:
        chance = self._rng.random()
        if self._frame < 0:
            self._since += 1 / FPS
            rate = 0.0 if self._since < 0.8 else 0.22 + 0.06 * self._since
            rate += 3.0 * (phrase_end and self._since > 0.8) + 1.5 * (shift and self._since > 0.8)
            if chance < rate / FPS:
                self._frame, self._depth = 0, float(self._rng.uniform(0.9, 1.0))
        if self._frame < 0:
            return 0.0
        value = float(_BLINK[self._frame]) * self._depth
        self._frame += 1
        if self._frame == len(_BLINK):
            self._frame, self._since = -1, 0.0
        return value


class _Gaze:
    """Fixations of half a second to three, small and mostly near the viewer's eyes; a shift takes a frame or two."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._now = np.zeros(2)
        self._goal = np.zeros(2)
        self._left = int(rng.uniform(1.0, 3.0) * FPS)

    def step(self) -> tuple[NDArray[np.float64], bool]:
        """Gaze (right in the picture, up), as coefficients of ``eyeLook`` shapes; and whether a large shift began."""
        self._left -= 1
        large = False
        if self._left <= 0:
            away = self._rng.random() < 0.3
            goal = self._rng.normal(0, 1, 2) * ([0.16, 0.08] if away else [0.04, 0.025])
            large = bool(np.abs(goal - self._goal).max() > 0.15)
            self._goal = goal.clip(-0.35, 0.35)
            self._left = int((self._rng.gamma(3.0, 0.25) if away else 0.4 + self._rng.gamma(2.0, 0.8)) * FPS)
        self._now = self._now + 0.65 * (self._goal - self._now)
        return self._now, large


class _Stress:
    """Running loudness of speech: how loud this moment is beside its surroundings, and whether anyone speaks."""

    def __init__(self) -> None:
        self._peak, self._slow, self.speaking = -45.0, 0.0, 0.0
        self._quiet = 0

    def step(self, level_db: float) -> tuple[float, bool]:
        """Stress -1..1 and whether a phrase just ended, from a frame's level."""
        self._peak = max(level_db, self._peak - 2.0 / FPS)
        loud = float(np.clip((level_db - self._peak + 30) / 30, 0, 1)) if level_db > -60 else 0.0
        self._slow += (loud - self._slow) / (0.8 * FPS)
        voiced = loud > 0.25
        self._quiet = 0 if voiced else self._quiet + 1
        self.speaking += (float(voiced) - self.speaking) / (0.6 * FPS)
        return float(np.clip(loud - self._slow, -1, 1)), self._quiet == 4 and self.speaking > 0.25


class _Body:
    """All of it, a frame at a time."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._blinks, self._gaze, self._stress = _Blinks(rng), _Gaze(rng), _Stress()
        slow = [_Drift(rng, std, 0.9) for std in np.radians([1.0, 1.5, 0.9])]
        quick = [_Drift(rng, std, 0.15) for std in np.radians([0.7, 0.8, 0.4])]
        self._turns = list(zip(slow, quick, strict=True))
        self._shifts = [_Drift(rng, std, 1.2) for std in (0.02, 0.012, 0.03)]
        self._brow = _Drift(rng, 0.03, 0.7)
        self._breath_hz, self._breath = float(rng.uniform(0.22, 0.28)), float(rng.uniform(0, 2 * np.pi))
        self._nod = self._nod_speed = self._raise = self._lively = 0.0
        self._sway = np.zeros(2)

    def step(self, level_db: float) -> NDArray[np.float32]:
        """52 coefficients, then rotation vector and translation: ``[58]``."""
        stress, phrase_end = self._stress.step(level_db)
        look, large = self._gaze.step()
        row = np.zeros(len(ARKIT) + 6)
        row[[_AT["eyeBlinkLeft"], _AT["eyeBlinkRight"]]] = self._blinks.step(phrase_end, large)
        self._look(row, look)
        self._raise += 0.25 * (max(0.0, stress - 0.25) - self._raise)  # brows rise with the strongest stresses
        brow = max(0.0, 0.35 * self._raise + self._brow.step())
        row[_AT["browInnerUp"]] = brow
        row[[_AT["browOuterUpLeft"], _AT["browOuterUpRight"]]] = 0.6 * brow

        self._lively += (0.35 + 0.65 * self._stress.speaking - self._lively) / (0.5 * FPS)  # pauses are calmer
        # a nod is a damped spring (1.6 Hz) that stress pushes: pitch down on the beat
        self._nod_speed += (stress * 7.0 - 100.0 * self._nod - 12.0 * self._nod_speed) / FPS
        self._nod += self._nod_speed / FPS
        self._breath += 2 * np.pi * self._breath_hz / FPS
        breath = np.sin(self._breath)
        self._sway += 0.06 * (look * [0.25, 0.15] - self._sway)  # the head follows the eyes a little
        pitch, yaw, roll = (slow.step() + self._lively * quick.step() for slow, quick in self._turns)
        turn = np.array([pitch + 0.5 * self._nod - self._sway[1] + 0.003 * breath, yaw + self._sway[0], roll])
        row[52:55] = np.radians(7.0) * np.tanh(turn / np.radians(7.0))
        row[55:58] = [d.step() for d in self._shifts] + np.array([0.0, 0.006 * breath, 0.0])
        row[55:58] -= np.cross(row[52:55], NECK)  # heads turn on the neck, not about the eyes
        return row.astype(np.float32)

    @staticmethod
    def _look(row: NDArray[np.float64], look: NDArray[np.float64]) -> None:
        right, up = look
        # right in the picture is toward the person's left: their left eye looks out, their right eye in
        row[[_AT["eyeLookOutLeft"], _AT["eyeLookInRight"]]] = max(0.0, right)
        row[[_AT["eyeLookInLeft"], _AT["eyeLookOutRight"]]] = max(0.0, -right)
        row[[_AT["eyeLookUpLeft"], _AT["eyeLookUpRight"]]] = max(0.0, up)
        row[[_AT["eyeLookDownLeft"], _AT["eyeLookDownRight"]]] = max(0.0, -up)


class IdleDrive:
    """Blinks, gaze, breathing and speech-accented head motion for the length of the speech.

    Args:
        seed: 0 or more; the same seed and sound give the same motion.

    Raises:
        OptionError: when the seed is negative.
    """

    def __init__(self, seed: int = 0) -> None:
        if seed < 0:
            raise OptionError(f"seed is {seed}; expected 0 or more")
        self.seed = seed

    def __call__(self, speech: Speech) -> Iterator[Motion]:
        """Motion in chunks of at most 50 frames; the total follows the sound exactly. Lips stay at rest."""
        return self.stream(speech.chunks())

    def stream(self, chunks: Iterator[NDArray[np.float32]]) -> Iterator[Motion]:
        """As ``__call__``, from float32 pieces ``[N]`` at 16 kHz of any sizes."""
        body = _Body(np.random.default_rng(self.seed))
        rows: list[NDArray[np.float32]] = []
        for level_db in _levels(chunks):
            rows.append(body.step(level_db))
            if len(rows) == CHUNK_FRAMES:
                yield _motion(rows)
                rows = []
        if rows:
            yield _motion(rows)


def _motion(rows: list[NDArray[np.float32]]) -> Motion:
    values = np.stack(rows)
    return Motion(values[:, :52], values[:, 52:])


def _levels(chunks: Iterator[NDArray[np.float32]]) -> Iterator[float]:
    """For each video frame of the sound the level in dB ``AHEAD_FRAMES`` later; silence follows the end."""
    rest = np.zeros(0, np.float32)
    samples = made = given = 0
    for piece in chunks:
        samples += len(piece)
        rest = np.concatenate([rest, piece])
        frames = len(rest) // FRAME_SAMPLES
        block, rest = rest[: frames * FRAME_SAMPLES], rest[frames * FRAME_SAMPLES :]
        for power in (block.reshape(frames, FRAME_SAMPLES) ** 2).mean(1):
            made += 1
            if made > AHEAD_FRAMES:
                given += 1
                yield float(10 * np.log10(power + 1e-9))
    for _ in range(round(samples / FRAME_SAMPLES) - given):
        yield -90.0
