"""What a user gives, checked and opened: portrait, sound, motion, style."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from magictalk.errors import MagicTalkWarning, MotionError, OptionError
from magictalk.face.landmarks import Box
from magictalk.motion import FPS, Motion
from magictalk.portrait import Portrait
from magictalk.speech import Speech
from magictalk.style import Style

Size = Literal["native"] | int
"""Size of the video: the picture's own, or this many pixels on its longer side."""
Parts = Literal["upper", "head", "all"]
"""What a driving video gives."""
SIZES = 64, 8192
"""Fewest and most pixels of the longer side."""
LARGEST_AMPLITUDE = 2.0
SLACK_FRAMES = 12
"""A motion file may end this much before the sound; its last frame is held."""


def style_of(
    emotion: str | None, style: str | Path | Style | None, prompt: str | None, timeline: str | None
) -> Style | None:
    """The expression that was asked for in one of four ways; None where in none.

    Raises:
        OptionError: when it was in several.
        StyleError: when it cannot be understood.
    """
    given = {"emotion": emotion, "style": style, "prompt": prompt, "timeline": timeline}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise OptionError(f"both {named[0]} and {named[1]} were given; choose one")
    if emotion is not None:
        return Style.parse(emotion)
    if timeline is not None:
        return Style.timeline(timeline)
    if prompt is not None:
        from magictalk.prompt import style_of_prompt

        return style_of_prompt(prompt)
    return Style.open(style) if isinstance(style, str | Path) else style


def check_options(
    amplitudes: dict[str, float], size: Size, driving_parts: str, start: float, duration: float | None
) -> None:
    """Refuse what no video can be made with.

    Raises:
        OptionError: when a value is out of its range.
    """
    for name, value in amplitudes.items():
        if not 0 <= value <= LARGEST_AMPLITUDE:
            raise OptionError(f"{name} is {value}; expected 0 to {LARGEST_AMPLITUDE:g}")
    if size != "native" and not (isinstance(size, int) and SIZES[0] <= size <= SIZES[1]):
        raise OptionError(f"size is {size}; expected native, or {SIZES[0]} to {SIZES[1]} pixels")
    if driving_parts not in get_args(Parts):
        raise OptionError(f"driving parts are {driving_parts!r}; expected {', '.join(get_args(Parts))}")
    if not 0 <= start < float("inf"):
        raise OptionError(f"start is {start} s; expected 0 or more")
    if duration is not None and not 0 < duration < float("inf"):
        raise OptionError(f"duration is {duration} s; expected more than 0")


def portrait_of(given: str | Path | Portrait | NDArray[np.uint8], face: int | None, box: Box | None) -> Portrait:
    """The portrait, opened if it is not yet.

    Raises:
        OptionError: when its face is chosen twice.
        PortraitError: when it cannot be used.
    """
    if face is not None and box is not None:
        raise OptionError("both a face number and a face box were given; choose one")
    if isinstance(given, str | Path):
        return Portrait.open(given, face, box)
    if isinstance(given, np.ndarray):
        return Portrait.from_array(given, face, box)
    if face is not None or box is not None:
        raise OptionError("the portrait's face is chosen already; choose it when opening the portrait")
    return given


def speech_of(
    given: str | Path | Speech | None, text: str | None, voice: str, start: float, duration: float | None
) -> Speech | None:
    """What is heard: a recording, or a text said by the bundled voice; None where neither was given.

    Raises:
        OptionError: when both were, or a part of no file.
        SpeechError: when it cannot be used.
    """
    if given is not None and text is not None:
        raise OptionError("both speech and text were given; choose one")
    if isinstance(given, str | Path):
        return Speech.open(given, start, duration)
    if start > 0 or duration is not None:
        raise OptionError("start and duration choose a part of a speech file; leave them out without one")
    return given if text is None else Speech.say(text, voice)


def sound_of(video: str | Path, start: float, duration: float | None) -> Speech | None:
    """The sound of a video, if it has any."""
    from magictalk.video import probe

    return Speech.open(video, start, duration) if probe(video).has_audio else None


def driving_of(video: str | Path, start: float, duration: float | None) -> Motion:
    """A video's motion from its head pose at ``start`` on."""
    motion = Motion.from_video(video)[round(start * FPS) :]
    motion = motion if duration is None else motion[: round(duration * FPS)]
    if not len(motion):
        raise MotionError(f"{video} has no frame after {start:g} s; choose an earlier start")
    return motion.relative()


def motion_given(motion: str | Path | Motion, speech: Speech | None) -> Motion:
    """A motion on the frame grid, from its first head pose on, that is long enough for the speech."""
    motion = (motion if isinstance(motion, Motion) else Motion.open(motion)).resample(FPS).relative()
    if not len(motion):
        raise MotionError("the motion has no frame; expected at least one")
    if speech and speech.duration and len(motion) + SLACK_FRAMES < round(speech.duration * FPS):
        raise MotionError(
            f"the motion lasts {motion.duration:.2f} s, the speech {speech.duration:.2f} s; "
            f"choose a duration of {motion.duration:.2f} s, or a longer motion"
        )
    return motion


def frame_size_of(portrait: Portrait, size: Size) -> tuple[int, int]:
    """Width and height of the video in pixels, both even."""
    height, width = portrait.image.shape[:2]
    if size == "native":
        return width + width % 2, height + height % 2
    scale = size / max(width, height)
    return max(16, 2 * round(width * scale / 2)), max(16, 2 * round(height * scale / 2))


def tell_of_the_end(driving: Motion, heard: Speech | None) -> None:
    """Warn of what happens where a driving video ends before the sound."""
    if heard is None or not heard.duration or len(driving) + SLACK_FRAMES >= round(heard.duration * FPS):
        return
    warnings.warn(
        f"the driving video lasts {driving.duration:.1f} s and the speech {heard.duration:.1f} s; at its end it runs "
        "back, and forth again",
        MagicTalkWarning,
        stacklevel=3,
    )


def name_of(speech: Speech | None) -> str:
    """What a sound is, for telling one job from another: a file by name, place and date, others by their samples."""
    if speech is None:
        return "none"
    if speech.source is None:
        return digest(speech.chunks())
    facts = speech.source.stat()
    return f"{speech.source.resolve()} from {speech.start:g} s, {facts.st_size} bytes, {facts.st_mtime_ns}"


def digest(arrays: Iterable[NDArray[np.generic]]) -> str:
    """A short name of numbers, the same for the same ones."""
    total = hashlib.blake2b(digest_size=8)
    for array in arrays:
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()
