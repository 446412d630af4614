"""The street end to end: who, what is said and how become a video.

magictalk.animate("me.png", "hello.wav").save("out.mp4")
"""

from __future__ import annotations

import hashlib
import shutil
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from magictalk.drive import mix
from magictalk.drive.speakers import UNMOVED, Drive, Speaker, speaker
from magictalk.errors import MagicTalkWarning, MotionError, OptionError, VideoError
from magictalk.face.landmarks import Box
from magictalk.motion import FPS, Motion
from magictalk.portrait import Portrait
from magictalk.speech import Speech
from magictalk.style import Style

if TYPE_CHECKING:
    from magictalk.render.diffusion.clip_render import ClipNetworks, ClipRender
    from magictalk.render.diffusion.render import DiffusionRender, Drawing, Networks
    from magictalk.render.rig import RigRender

Size = Literal["native"] | int
"""Size of the video: the picture's own, or this many pixels on its longer side."""
Parts = Literal["upper", "head", "all"]
"""What a driving video gives."""
Generates: TypeAlias = "DiffusionRender | ClipRender"
"""What makes frames by diffusion."""
Progress = Callable[[int, int | None], None]
"""Called with the frames finished and the frames expected, None while that is not known."""
SIZES = 64, 8192
"""Fewest and most pixels of the longer side."""
LARGEST_AMPLITUDE = 2.0

_SLACK_FRAMES = 12
"""A motion file may end this much before the sound; its last frame is held."""


class MadeVideo(ABC):
    """A video that is made while it is read.

    Args:
        speech: what is heard; None is silence.
        frame_size: ``(width, height)`` in pixels, both even.
        frame_count: frames expected.
        fingerprint: what the frames depend on, asked for when it is saved; only the same job is gone on with.

    Attributes:
        resume_hint: after :meth:`save` ended in an error: how to go on from what is kept; None when nothing is.
    """

    def __init__(
        self,
        speech: Speech | None,
        frame_size: tuple[int, int],
        frame_count: int | None,
        fingerprint: Callable[[], dict[str, str]] = dict,
    ) -> None:
        self.speech, self.frame_size, self.frame_count = speech, frame_size, frame_count
        self.resume_hint: str | None = None
        self._fingerprint = fingerprint

    @abstractmethod
    def frames(self, start: int = 0) -> Iterator[NDArray[np.uint8]]:
        """Frames from number ``start`` on, uint8 RGB ``[H, W, 3]``, made one at a time."""

    def save(
        self, path: str | Path, *, overwrite: bool = False, resume: bool = False, progress: Progress | None = None
    ) -> Path:
        """Write ``.mp4``, ``.webm`` or numbered pictures (a folder, or ``shot_%05d.png``); nothing, unless it is whole.

        Args:
            path: the file to write.
            overwrite: replace what is there.
            resume: go on after the last whole segment of a job that broke off.
            progress: told after each frame.

        Raises:
            VideoError: when it exists, cannot be written, or the broken job was another.
            MagicTalkError: when the speech turns out to be damaged on the way.
        """
        from magictalk.video import VideoWriter

        writer = VideoWriter(
            path,
            fps=FPS,
            sound=self.speech.sound if self.speech else None,
            fingerprint=self._fingerprint(),
            resume=resume,
            overwrite=overwrite,
        )
        try:
            with writer:
                for done, frame in enumerate(self.frames(writer.done_frames), writer.done_frames + 1):
                    writer.write(frame)
                    if progress:
                        progress(done, self.frame_count)
        finally:
            self.resume_hint = writer.resume_hint
        return Path(path)


class Animation(MadeVideo):
    """A talking portrait that is made while it is read. Make one with :func:`animate`.

    Attributes:
        portrait: who.
        speech: what is heard; None is silence, and the motion decides the length.
        frame_size: ``(width, height)`` of the video in pixels, both even.
        frame_count: frames expected; an estimate where a file does not state its length, None where nothing does.
        resume_hint: after :meth:`save` ended in an error: how to go on from what is kept; None when nothing is.
    """

    def __init__(
        self,
        portrait: Portrait,
        speech: Speech | None,
        motions: Callable[[], Iterator[Motion]],
        *,
        frame_size: tuple[int, int],
        frame_count: int | None,
        label: bool = False,
        fingerprint: Callable[[], dict[str, str]] = dict,
    ) -> None:
        super().__init__(speech, frame_size, frame_count, fingerprint)
        self.portrait = portrait
        self._motions, self._label = motions, label

    def motions(self) -> Iterator[Motion]:
        """The motion in chunks of at most 50 frames, from the beginning at each call."""
        return self._motions()

    def frames(self, start: int = 0) -> Iterator[NDArray[np.uint8]]:
        """Frames from number ``start`` on, uint8 RGB ``[H, W, 3]``, made one at a time."""
        for frame in self._render(mix.skip(self.motions(), start)):
            yield self._labelled(frame)

    def _labelled(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._label:
            from magictalk.video import label

            label(frame)
        return frame

    @cached_property
    def _render(self) -> RigRender:
        from magictalk.render.rig import RigRender

        return RigRender(self.portrait, self.frame_size)


class GeneratedAnimation(Animation):
    """The same, generated by latent diffusion: as a whole before the first frame is there, or frame by frame.

    Args:
        render: what generates it.
        job: tells one animation from another.

    Attributes:
        denoising: told of denoising steps done and to be done.
    """

    def __init__(
        self,
        speech: Speech | None,
        motions: Callable[[], Iterator[Motion]],
        render: Generates,
        *,
        frame_count: int | None,
        label: bool,
        fingerprint: Callable[[], dict[str, str]],
    ) -> None:
        super().__init__(
            render.portrait,
            speech,
            motions,
            frame_size=render.frame_size,
            frame_count=frame_count,
            label=label,
            fingerprint=fingerprint,
        )
        self._generate = render
        self._work: Path | None = None
        self.denoising: Callable[[int, int], None] | None = None

    def frames(self, start: int = 0) -> Iterator[NDArray[np.uint8]]:
        """Frames from number ``start`` on, uint8 RGB ``[S, S, 3]``."""
        job = "" if self._work is None else str(self._fingerprint())
        for frame in self._generate(self.motions(), start, self._work, job, self.denoising):
            yield self._labelled(frame)

    def save(
        self, path: str | Path, *, overwrite: bool = False, resume: bool = False, progress: Progress | None = None
    ) -> Path:
        """As :meth:`MadeVideo.save`; what is finished is kept beside the file when the job breaks off."""
        folder = Path(path).with_name(f".{Path(path).name.replace('%', '_')}.latents")
        if not resume and folder.exists() and (overwrite or not Path(path).exists()):  # else it is refused below
            shutil.rmtree(folder)
        self._work = folder
        try:
            saved = super().save(path, overwrite=overwrite, resume=resume, progress=progress)
        except BaseException:
            if self.resume_hint is None and folder.exists():
                self.resume_hint = "what is finished is kept; the same with --resume goes on after it"
            raise
        finally:
            self._work = None
        shutil.rmtree(folder, ignore_errors=True)
        return saved


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
    _check_options(amplitudes, size, driving_parts, start, duration)
    if motion is not None and driving is not None:
        raise OptionError("both a motion and a driving video were given; choose one")
    own_sound = driving_parts == "all" and speech is None and text is None
    if driving is not None and own_sound:
        heard = _sound_of(driving, start, duration)
    else:
        heard = _speech(speech, text, voice, start, duration)
    if heard is None and motion is None and (driving is None or not own_sound):
        raise OptionError("nothing to say; give a speech file or a text")
    how = _style(emotion, style, prompt, timeline)
    led = driving is not None and driving_parts == "head"
    driven = driving is not None and not led
    if (how or guidance is not None) and (motion is not None or driven or drive in UNMOVED):
        other = "a motion file" if motion is not None else "a driving video" if driven else drive
        raise OptionError(f"emotions and guidance are EmoDiff's, and {other} was asked for; choose one")
    who = _portrait(portrait, face, face_box)
    source: Callable[[], Iterator[Motion]]
    given: Motion | None = None
    if motion is not None:
        given = _given(motion, heard)
        source = partial(mix.play, given, heard, swing=False)
    elif driving is not None:
        given = _driving(driving, start if own_sound else 0.0, duration if own_sound else None)
        _tell_of_the_end(given, heard)
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
            "portrait": _digest((who.image, who.landmarks)),
            "speech": f"{text!r} in {voice}" if text is not None else _name_of(heard),
            "motion": f"{drive}, seed {seed}, guidance {guidance}"
            if given is None
            else f"{_digest((given.coefficients, given.head))} {driving_parts}"
            + (f" of {drive}, seed {seed}, guidance {guidance}" if led else ""),
            "style": "none"
            if how is None
            else _digest((how.times, how.expressions, how.faces, np.array([how.lips, how.head]))),
            "amplitudes": f"lips {lips:g}, head {head:g}, blink {blink:g}",
            "label": str(label),
            **({} if drawing is None else {"drawing": str(drawing)}),
        }

    if drawing is None:
        return Animation(
            who,
            heard,
            motions,
            frame_size=_frame_size(who, size),
            frame_count=count,
            label=label,
            fingerprint=fingerprint,
        )
    if size != "native":
        raise OptionError("the diffusion draws frames of one size; leave the size out")
    render = _render_of(who, drawing, networks)
    return GeneratedAnimation(heard, motions, render, frame_count=count, label=label, fingerprint=fingerprint)


def _render_of(who: Portrait, drawing: Drawing, networks: Networks | ClipNetworks | None) -> Generates:
    """What draws so; the embedded tier's networks where none are given."""
    from magictalk.render.diffusion import tiers
    from magictalk.render.diffusion.clip_render import ClipDrawing, ClipNetworks, ClipRender
    from magictalk.render.diffusion.portraits import PortraitDrawing, PortraitRender
    from magictalk.render.diffusion.render import DiffusionRender

    if isinstance(drawing, ClipDrawing) != isinstance(networks, ClipNetworks) and networks is not None:
        raise OptionError("the drawing is of one system and the networks of another; leave the networks out")
    if isinstance(drawing, ClipDrawing):
        return ClipRender(who, drawing, networks if isinstance(networks, ClipNetworks) else clip_networks())
    others = None if isinstance(networks, ClipNetworks) else networks
    if isinstance(drawing, PortraitDrawing):
        return PortraitRender(who, drawing, others or tiers.nano_portrait())
    return DiffusionRender(who, drawing, others or tiers.nano())


def clip_networks(
    network: str | Path | None = None, tokens: str | Path | None = None, history: bool = True
) -> ClipNetworks:
    """The embedded tier of MCDM: the network that draws, and the motion prior's tokens, which it was taught with.

    Args:
        network: a folder, not the package's.
        tokens: of their encoders: a folder, not the package's.
        history: as in :class:`magictalk.render.diffusion.clip_by_clip.ClipByClip`.

    Raises:
        WeightsError: when weights are missing or do not fit.
    """
    from magictalk import weights
    from magictalk.drive.motion_prior import SHIPPED, MotionTokens
    from magictalk.render.diffusion import tiers

    encoders = weights.load(MotionTokens, SHIPPED[0] if tokens is None else tokens).eval()
    return tiers.nano_clips(encoders.encode, tiers.CLIPS if network is None else network, history=history)


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
    how = _style(emotion, style, prompt, timeline)
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


def _tell_of_the_end(driving: Motion, heard: Speech | None) -> None:
    """Warn of what happens where a driving video ends before the sound."""
    if heard is None or not heard.duration or len(driving) + _SLACK_FRAMES >= round(heard.duration * FPS):
        return
    warnings.warn(
        f"the driving video lasts {driving.duration:.1f} s and the speech {heard.duration:.1f} s; at its end it runs "
        "back, and forth again",
        MagicTalkWarning,
        stacklevel=3,
    )


def _style(
    emotion: str | None, style: str | Path | Style | None, prompt: str | None, timeline: str | None
) -> Style | None:
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


def _check_options(
    amplitudes: dict[str, float], size: Size, driving_parts: str, start: float, duration: float | None
) -> None:
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


def _portrait(given: str | Path | Portrait | NDArray[np.uint8], face: int | None, box: Box | None) -> Portrait:
    if face is not None and box is not None:
        raise OptionError("both a face number and a face box were given; choose one")
    if isinstance(given, str | Path):
        return Portrait.open(given, face, box)
    if isinstance(given, np.ndarray):
        return Portrait.from_array(given, face, box)
    if face is not None or box is not None:
        raise OptionError("the portrait's face is chosen already; choose it when opening the portrait")
    return given


def _speech(
    given: str | Path | Speech | None, text: str | None, voice: str, start: float, duration: float | None
) -> Speech | None:
    if given is not None and text is not None:
        raise OptionError("both speech and text were given; choose one")
    if isinstance(given, str | Path):
        return Speech.open(given, start, duration)
    if start > 0 or duration is not None:
        raise OptionError("start and duration choose a part of a speech file; leave them out without one")
    return given if text is None else Speech.say(text, voice)


def _sound_of(video: str | Path, start: float, duration: float | None) -> Speech | None:
    from magictalk.video import probe

    return Speech.open(video, start, duration) if probe(video).has_audio else None


def _driving(video: str | Path, start: float, duration: float | None) -> Motion:
    """A video's motion from its head pose at ``start`` on."""
    motion = Motion.from_video(video)[round(start * FPS) :]
    motion = motion if duration is None else motion[: round(duration * FPS)]
    if not len(motion):
        raise MotionError(f"{video} has no frame after {start:g} s; choose an earlier start")
    return motion.relative()


def _given(motion: str | Path | Motion, speech: Speech | None) -> Motion:
    """A motion on the frame grid, from its first head pose on, that is long enough for the speech."""
    motion = (motion if isinstance(motion, Motion) else Motion.open(motion)).resample(FPS).relative()
    if not len(motion):
        raise MotionError("the motion has no frame; expected at least one")
    if speech and speech.duration and len(motion) + _SLACK_FRAMES < round(speech.duration * FPS):
        raise MotionError(
            f"the motion lasts {motion.duration:.2f} s, the speech {speech.duration:.2f} s; "
            f"choose a duration of {motion.duration:.2f} s, or a longer motion"
        )
    return motion


def _frame_size(portrait: Portrait, size: Size) -> tuple[int, int]:
    height, width = portrait.image.shape[:2]
    if size == "native":
        return width + width % 2, height + height % 2
    scale = size / max(width, height)
    return max(16, 2 * round(width * scale / 2)), max(16, 2 * round(height * scale / 2))


def _name_of(speech: Speech | None) -> str:
    """What a sound is, for telling one job from another: a file by name, place and date, others by their samples."""
    if speech is None:
        return "none"
    if speech.source is None:
        return _digest(speech.chunks())
    facts = speech.source.stat()
    return f"{speech.source.resolve()} from {speech.start:g} s, {facts.st_size} bytes, {facts.st_mtime_ns}"


def _digest(arrays: Iterable[NDArray[np.generic]]) -> str:
    total = hashlib.blake2b(digest_size=8)
    for array in arrays:
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()
