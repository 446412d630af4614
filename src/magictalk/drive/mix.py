"""Put motions together: lips and the rest of the face, a driving video, a motion file; in chunks, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from magictalk.motion import Motion

if TYPE_CHECKING:
    from magictalk.speech import Speech

CHUNK_FRAMES = 50


def speak(speech: Speech, seed: int = 0) -> Iterator[Motion]:
    """Whole motion from sound alone: lips by Audio2BS, blinks, gaze and head by the idle drive."""
    from magictalk.drive.audio2bs import Audio2BSDrive
    from magictalk.drive.idle import IdleDrive

    for lips, rest in aligned(Audio2BSDrive.load()(speech), IdleDrive(seed)(speech)):
        yield lips + rest


def keep(motions: Iterator[Motion], mood: NDArray[np.float32]) -> Iterator[Motion]:
    """The same motion on a face that keeps a mood, coefficients ``[52]``, throughout."""
    for motion in motions:
        yield motion + Motion(np.tile(mood, (len(motion), 1)), fps=motion.fps)


def follow(speech: Speech, motion: Motion) -> Iterator[Motion]:
    """Lips from the sound; head, brows, eyes and cheeks from a motion that runs forth and back."""
    from magictalk.drive.audio2bs import Audio2BSDrive

    start = 0
    for lips in Audio2BSDrive.load()(speech):
        yield lips.take(_part(motion, start, len(lips), swing=True), "brows", "eyes", "cheeks", "head")
        start += len(lips)


def lead(motions: Iterator[Motion], motion: Motion) -> Iterator[Motion]:
    """Faces from one motion, the head from another that runs forth and back."""
    start = 0
    for face in motions:
        yield face.take(_part(motion, start, len(face), swing=True), "head")
        start += len(face)


def play(motion: Motion, speech: Speech | None, swing: bool) -> Iterator[Motion]:
    """A motion for as long as the speech lasts, or once when there is none.

    Args:
        motion: one frame or more.
        speech: decides the length.
        swing: run forth and back where the motion is too short; else its last frame is held.
    """
    start = 0
    for frames in _frames_of(speech) if speech else [len(motion)]:
        for at in range(start, start + frames, CHUNK_FRAMES):
            yield _part(motion, at, min(CHUNK_FRAMES, start + frames - at), swing)
        start += frames


def aligned(first: Iterator[Motion], second: Iterator[Motion]) -> Iterator[tuple[Motion, Motion]]:
    """Two motions of one length, cut differently, side by side in the same pieces."""
    a, b = Motion.zeros(0), Motion.zeros(0)
    while True:
        a = a if len(a) else next(first, a)
        b = b if len(b) else next(second, b)
        n = min(len(a), len(b))
        if not n:
            return
        yield a[:n], b[:n]
        a, b = a[n:], b[n:]


def skip(motions: Iterator[Motion], frames: int) -> Iterator[Motion]:
    """The same motion without its first frames."""
    for motion in motions:
        if len(motion) > frames:
            yield motion[frames:]
        frames = max(0, frames - len(motion))


def _frames_of(speech: Speech) -> Iterator[int]:
    """Frames that go with each piece of the sound, in all exactly the sound's."""
    samples = frames = 0
    for chunk in speech.chunks():
        samples += len(chunk)
        total = speech.frame_count(samples)
        yield total - frames
        frames = total


def _part(motion: Motion, start: int, frames: int, swing: bool) -> Motion:
    last = len(motion) - 1
    index = np.arange(start, start + frames)
    index = last - np.abs(index % (2 * last) - last) if swing and last else np.minimum(index, last)
    return Motion(motion.coefficients[index], motion.head[index], motion.fps)
