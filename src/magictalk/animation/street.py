"""From what a user gives to an animation, or to the motion alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from magictalk.animation.given import (
    Parts,
    Size,
    check_options,
    digest,
    driving_of,
    frame_size_of,
    motion_given,
    name_of,
    portrait_of,
    sound_of,
    speech_of,
    style_of,
    tell_of_the_end,
)
from magictalk.animation.made import Animation, GeneratedAnimation
from magictalk.animation.networks import render_of
from magictalk.drive import mix
from magictalk.drive.speakers import UNMOVED, Drive, Speaker, speaker
from magictalk.errors import MotionError, OptionError, VideoError
from magictalk.face.landmarks import Box
from magictalk.motion import FPS, Motion
from magictalk.portrait import Portrait
from magictalk.speech import Speech
from magictalk.style import Style

if TYPE_CHECKING:
    from magictalk.render.diffusion.clip_render import ClipNetworks
    from magictalk.render.diffusion.render import Drawing, Networks


def animate(
    portrait: str | Path | Portrait | NDArray[np.uint8],
    speech: str | Path | Speech | None = None,
    *,
    text: str | None = None,
    voice: str = "en",
    face: int | None = None,
    face_box: Box | None = None,
    size: Size = "native",
    lips: float = 1.0,
    head: float = 1.0,
    blink: float = 1.0,
    emotion: str | None = None,
    style: str | Path | Style | None = None,
    prompt: str | None = None,
    timeline: str | None = None,
    guidance: float | None = None,
    drive: Drive = "emodiff",
    driving: str | Path | None = None,
    driving_parts: Parts = "upper",
    motion: str | Path | Motion | None = None,
    drawing: Drawing | None = None,
    networks: Networks | ClipNetworks | None = None,
    seed: int = 0,
    label: bool = False,
    start: float = 0.0,
    duration: float | None = None,
) -> Animation:
    """Make a portrait speak. Nothing is drawn before the frames are read or saved.

    Args:
        portrait: a picture file, a :class:`Portrait`, or uint8 RGB ``[H, W, 3]``.
        speech: an audio or video file, or a :class:`Speech`. Sound decides the length of the video.
        text: said by the bundled voice instead of ``speech``.
        voice: language of ``text``: ``en``, ``de``, ``cmn`` ...
        face: which face, from 1 from left to right; the largest by default.
        face_box: ``(x, y, width, height)`` around the face, when it is not found by itself.
        size: ``"native"``, or the pixels of the longer side; the whole picture is scaled, never cut.
        lips: amplitude of the mouth's motion, 0..2.
        head: amplitude of the head's motion, 0..2.
        blink: amplitude of the eyelids' blinks, 0..2.
        emotion: ``"happy"``, ``"angry 0.5"``, ``"sad 0.6 + fear 0.3"``: one of ``style.EMOTIONS`` or several, and how
            much of each, 0..1.5. Without one of this and the next three the voice alone leads.
        style: a picture or video of somebody who shows the expression, or a :class:`Style`.
        prompt: a description in words: ``"she whispers, close to tears"``.
        timeline: emotions that follow each other: ``"0s neutral, 4s happy 0.8, 9s surprised"``.
        guidance: how strictly EmoDiff follows voice and style, 0..10; more is less diverse.
        drive: ``"emodiff"``; ``"emodiff-unrefined"`` leaves its own lips; ``"audio2bs"`` is lips by Audio2BS and an
            idle head, faster and without emotions; ``"variational"`` is MAGIC-Talk's generator and ``"mcdm"`` MCDM's
            motion prior, without emotions too.
        driving: a video of a face to take motion from. Shorter than the sound, it runs forth and back.
        driving_parts: ``"upper"`` takes head, brows, eyes and cheeks from it and the lips from the speech; ``"head"``
            the head only, which leads the motion prior of ``"mcdm"`` and is put on other drives' faces;
            ``"all"`` takes everything, and its sound too when there is no speech.
        motion: a ``.csv`` or ``.npz`` file, or a :class:`Motion`, instead of motion made from the speech; at its first
            frame the head is as in the picture. Without speech the video is silent and as long as the motion.
        drawing: generate the frames by latent diffusion, and how; by default the rig moves the picture's own pixels.
        networks: of the diffusion, such as ``tiers.full(folder)``; the embedded tier's by default.
        seed: of blinks, gaze, brows and head motion; that of the diffusion's noise is the drawing's.
        label: draw a visible "AI-generated" mark.
        start: seconds of the speech to skip; also of a driving video that gives the sound.
        duration: seconds of the speech to use.

    Raises:
        OptionError: when a value is out of its range or two contradict each other.
        PortraitError, SpeechError, StyleError, MotionError, VideoError: when an input cannot be used.
    """
    amplitudes = {"lips": lips, "head": head, "blink": blink}
    check_options(amplitudes, size, driving_parts, start, duration)
    if motion is not None and driving is not None:
        raise OptionError("both a motion and a driving video were given; choose one")
    own_sound = driving_parts == "all" and speech is None and text is None
    if driving is not None and own_sound:
        heard = sound_of(driving, start, duration)
    else:
        heard = speech_of(speech, text, voice, start, duration)
    if heard is None and motion is None and (driving is None or not own_sound):
        raise OptionError("nothing to say; give a speech file or a text")
    how = style_of(emotion, style, prompt, timeline)
    led = driving is not None and driving_parts == "head"
    driven = driving is not None and not led
    if (how or guidance is not None) and (motion is not None or driven or drive in UNMOVED):
        other = "a motion file" if motion is not None else "a driving video" if driven else drive
        raise OptionError(f"emotions and guidance are EmoDiff's, and {other} was asked for; choose one")
    who = portrait_of(portrait, face, face_box)
    source: Callable[[], Iterator[Motion]]
    given: Motion | None = None
    if motion is not None:
        given = motion_given(motion, heard)
        source = partial(mix.play, given, heard, swing=False)
    elif driving is not None:
        given = driving_of(driving, start if own_sound else 0.0, duration if own_sound else None)
        tell_of_the_end(given, heard)
        source = partial(mix.play, given, heard, swing=True)
        if heard is not None and driving_parts == "upper":
            source = partial(mix.follow, heard, given)
        elif heard is not None and led:
            source = _led(drive, how, seed, guidance, who, given, heard)
    elif heard is not None:
        source = partial(speaker(drive, how, seed, guidance, who), heard)
    if heard is not None:
        count = None if heard.duration is None else round(heard.duration * FPS)
    else:
        count = None if given is None else len(given)

    def motions() -> Iterator[Motion]:
        scaled = (chunk.scale(**amplitudes) for chunk in source())
        # amplitudes are of what is added to the face, not of the mood it keeps; who asks for an emotion gets no other
        return mix.keep(scaled, who.mood) if (given is None or led) and how is None else scaled

    def fingerprint() -> dict[str, str]:
        return {
            "portrait": digest((who.image, who.landmarks)),
            "speech": f"{text!r} in {voice}" if text is not None else name_of(heard),
            "motion": f"{drive}, seed {seed}, guidance {guidance}"
            if given is None
            else f"{digest((given.coefficients, given.head))} {driving_parts}"
            + (f" of {drive}, seed {seed}, guidance {guidance}" if led else ""),
            "style": "none"
            if how is None
            else digest((how.times, how.expressions, how.faces, np.array([how.lips, how.head]))),
            "amplitudes": f"lips {lips:g}, head {head:g}, blink {blink:g}",
            "label": str(label),
            **({} if drawing is None else {"drawing": str(drawing)}),
        }

    if drawing is None:
        return Animation(
            who,
            heard,
            motions,
            frame_size=frame_size_of(who, size),
            frame_count=count,
            label=label,
            fingerprint=fingerprint,
        )
    if size != "native":
        raise OptionError("the diffusion draws frames of one size; leave the size out")
    render = render_of(who, drawing, networks)
    return GeneratedAnimation(heard, motions, render, frame_count=count, label=label, fingerprint=fingerprint)


def motion_of(
    path: str | Path,
    source: Literal["auto", "speech", "video"] = "auto",
    seed: int = 0,
    *,
    emotion: str | None = None,
    style: str | Path | Style | None = None,
    prompt: str | None = None,
    timeline: str | None = None,
    guidance: float | None = None,
    drive: Drive = "emodiff",
) -> Motion:
    """The motion of a recording: of the face in a video, or made from the sound.

    Args:
        path: a sound or video file.
        source: ``"auto"`` reads the face where a video shows one, and listens otherwise; with an emotion it listens.
        seed: of blinks, gaze, brows and head motion made from sound.
        emotion, style, prompt, timeline, guidance, drive: of motion made from sound, as :func:`animate`.

    Raises:
        OptionError: when options contradict each other.
        SpeechError, StyleError, VideoError, MotionError: when the file cannot be used so.
    """
    how = style_of(emotion, style, prompt, timeline)
    made = partial(speaker, drive, how, seed, guidance)
    from magictalk.video import probe

    if source == "video":
        if how or guidance is not None:
            raise OptionError("the motion is read off the face; leave out what EmoDiff is to do")
        return Motion.from_video(path)
    if source == "auto" and not how and guidance is None:
        try:
            heard = probe(path).has_audio
        except VideoError:
            return _made(path, made)
        try:
            return Motion.from_video(path)
        except MotionError:
            if not heard:
                raise
    return _made(path, made)


def _made(path: str | Path, drive: Callable[[], Speaker]) -> Motion:
    speech = Speech.open(path)
    return Motion.concatenate(list(drive()(speech)))


def _led(
    drive: Drive, how: Style | None, seed: int, guidance: float | None, who: Portrait, head: Motion, heard: Speech
) -> Callable[[], Iterator[Motion]]:
    """A drive's face under the head of a driving video."""
    if drive == "mcdm":
        return partial(speaker(drive, how, seed, guidance, who, head), heard)
    speak = speaker(drive, how, seed, guidance, who)
    return lambda: mix.lead(speak(heard), head)
