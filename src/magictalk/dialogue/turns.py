"""Turns: when each line of a script is said, to whom, and where its speaker pauses; and the sound of it all.

Turns begin and last whole video frames, so that sound and picture stay on one grid however many there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import numpy as np
from numpy.typing import NDArray

from magictalk.dialogue.script import Line, Script
from magictalk.errors import DialogueError, MagicTalkError, OptionError
from magictalk.speech import FPS, RATE, Speech
from magictalk.video.sound import Sound

GAP = 0.35
"""Seconds between two lines unless told otherwise."""
LONGEST_GAP = 10.0
SOUND_RATE = 48000
"""Samples a second of the video's sound; it divides by 25."""

_LEAD_FRAMES, _TAIL_FRAMES = 12, 20
"""Quiet before the first line and after the last."""
_FRAME_SAMPLES = RATE // FPS
_FRAME_SOUND = SOUND_RATE // FPS
_PAUSE_FRAMES = 4
_PHRASE_FRAMES = 17
"""Only after 0.7 s of speech is a pause the end of a phrase (Ward and Tsukahara 2000, on when listeners respond)."""


@dataclass(frozen=True)
class Turn:
    """A line and its place in time.

    Attributes:
        who: the speaker.
        to: who listens first of all.
        speech: the voice.
        start: the video frame at which it begins.
        frames: how long it lasts.
        pauses: frames of the video at which a phrase of it has just ended.
        text: what is said, None where a recording comes without its words.
        emotion: in which mood, None for none in particular.
    """

    who: str
    to: str
    speech: Speech
    start: int
    frames: int
    pauses: tuple[int, ...]
    text: str | None
    emotion: str | None

    @property
    def end(self) -> int:
        """The first frame after it."""
        return self.start + self.frames


def turns_of(script: Script, gap: float = GAP) -> tuple[Turn, ...]:
    """Speak every line once, to know how long it lasts and where its pauses are; nothing of it is kept.

    Args:
        script: the dialogue.
        gap: seconds before each line that does not state a pause of its own.

    Raises:
        DialogueError: naming the line whose voice or recording cannot be used.
        OptionError: when the gap is out of range.
    """
    if not 0 <= gap <= LONGEST_GAP:
        raise OptionError(f"gap is {gap} s; expected 0 to {LONGEST_GAP:g}")
    turns: list[Turn] = []
    at = _LEAD_FRAMES
    for number, line in enumerate(script.lines, 1):
        pause = line.pause if line.pause is not None else gap if turns else 0.0
        start = at + round(pause * FPS)
        try:
            speech = _speech(script, line)
            loudness = np.concatenate(list(_loudness(speech)))
        except MagicTalkError as error:
            raise DialogueError(f"line {number}, {line.who}: {error}") from error
        ends = tuple(start + int(frame) for frame in phrase_ends(loudness))
        emotion = line.emotion or script.characters[line.who].emotion
        turns.append(
            Turn(line.who, _addressee(script, number - 1), speech, start, len(loudness), ends, line.text, emotion)
        )
        at = start + len(loudness)
    return tuple(turns)


def length(turns: Sequence[Turn]) -> int:
    """Frames of the whole video."""
    return turns[-1].end + _TAIL_FRAMES


def track(turns: Sequence[Turn], who: str | None = None) -> Speech:
    """The sound of the whole dialogue: of everybody, or of one voice with silence while others speak; stereo."""
    heard = [turn for turn in turns if who in (None, turn.who)]
    frames = length(turns)
    return Speech(Sound(SOUND_RATE, "stereo", partial(_blocks, heard, frames)), None, 0.0, frames / FPS)


def phrase_ends(loudness: NDArray[np.float32]) -> NDArray[np.int64]:
    """Frames at which a voice has just come to a pause, and the last one.

    Args:
        loudness: float32 ``[T]``, root mean square of each frame's sound.

    Returns:
        int64 ``[N]``: the frame after each phrase's last loud one.
    """
    voiced = np.flatnonzero(loudness > 0.05 * np.quantile(loudness, 0.95))
    gaps = np.flatnonzero(np.diff(voiced) > _PAUSE_FRAMES)
    ends, last = [], 0
    for end, begin in zip(voiced[gaps] + 1, voiced[gaps + 1], strict=True):
        if end - last >= _PHRASE_FRAMES:
            ends.append(int(end))
            last = int(begin)
    return np.array([*ends, len(loudness)])


def _speech(script: Script, line: Line) -> Speech:
    if line.audio is not None:
        return Speech.open(line.audio)
    who = script.characters[line.who]
    said = line.text or ""
    return Speech.say(said, script.voice(line.who), rate_wpm=who.rate_wpm, pitch=who.pitch, pitch_range=who.pitch_range)


def _addressee(script: Script, index: int) -> str:
    """Who a line is said to: whom it names, else who spoke last before or first after, else the first other."""
    line = script.lines[index]
    around = [*reversed(script.lines[:index]), *script.lines[index + 1 :]]
    others = (*(other.who for other in around), *script.characters)
    return line.to or next(name for name in others if name != line.who)


def _loudness(speech: Speech) -> Iterator[NDArray[np.float32]]:
    for chunk in speech.chunks():
        padded = np.pad(chunk, (0, -len(chunk) % _FRAME_SAMPLES))
        yield np.sqrt((padded.reshape(-1, _FRAME_SAMPLES) ** 2).mean(1))


def _blocks(turns: Sequence[Turn], frames: int) -> Iterator[NDArray[np.float32]]:
    """Blocks ``[n, 2]``, in all exactly ``frames`` video frames long."""
    at = 0
    for turn in turns:
        yield from _silence((turn.start - at) * _FRAME_SOUND)
        left = turn.frames * _FRAME_SOUND
        for block in _resampled(turn.speech.sound):
            yield block[:left]
            left -= len(block[:left])
        yield from _silence(left)
        at = turn.end
    yield from _silence((frames - at) * _FRAME_SOUND)


def _silence(samples: int) -> Iterator[NDArray[np.float32]]:
    for at in range(0, samples, SOUND_RATE):
        yield np.zeros((min(SOUND_RATE, samples - at), 2), np.float32)


def _resampled(sound: Sound) -> Iterator[NDArray[np.float32]]:
    """A sound as stereo ``[n, 2]`` blocks at 48 kHz; one channel goes to both sides as it is."""
    import av

    convert = av.AudioResampler(format="flt", layout="stereo", rate=SOUND_RATE)
    layout = "stereo" if sound.layout == "mono" else sound.layout
    at = 0
    for block in sound.blocks():
        if sound.layout == "mono":
            block = np.repeat(block, 2, 1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block).reshape(1, -1), format="flt", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = sound.rate, at, Fraction(1, sound.rate)
        at += len(block)
        for part in convert.resample(frame):
            yield part.to_ndarray().reshape(-1, 2).clip(-1, 1)
    for part in convert.resample(None):
        yield part.to_ndarray().reshape(-1, 2).clip(-1, 1)
