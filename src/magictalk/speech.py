"""Speech: a voice on the frame grid, from a file, an array, or text; streamed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from magictalk.audio import tts
from magictalk.audio.tts import Phoneme
from magictalk.errors import SpeechError
from magictalk.video.sound import Sound
from magictalk.video.source import open_media, seek, start_of, stated_duration

if TYPE_CHECKING:
    import av.container

RATE = 16000
"""Samples a second of the sound that networks hear."""
FPS = 25
"""Frames a second of the frame grid."""

_WEIGHTS = {"LFE": 0.0, "LFE2": 0.0, "FC": 1.0} | dict.fromkeys(("BL", "BR", "BC", "SL", "SR", "TFL", "TFR"), 0.5)
"""Share of each loudspeaker in the mono mix; 0.7 for those not named. Voices sit in the centre."""
_SHORTEST = 0.5 / FPS
_GAP = 0.02
"""Seconds by which time stamps must jump before the hole is filled with silence."""


@dataclass(frozen=True)
class Speech:
    """A voice. Make one with :meth:`open`, :meth:`from_array` or :meth:`say`.

    Attributes:
        sound: the same in its original rate and channels, for the video file.
        source: the file it comes from, if any.
        start: seconds into that file at which it begins.
    """

    sound: Sound
    source: Path | None = None
    start: float = 0.0
    _seconds: float | None = None
    _text: tuple[str, str, dict[str, int | None]] | None = field(default=None, repr=False)

    @staticmethod
    def open(path: str | Path, start: float = 0.0, duration: float | None = None) -> Speech:
        """Open any audio file, or a video with sound; it is decoded later, in bounded memory.

        Args:
            path: a file FFmpeg reads.
            start: seconds to skip.
            duration: seconds to use; None for all.

        Raises:
            SpeechError: when it is missing, empty, cut off, not sound, shorter than a video frame, or ends before
                ``start``. What only decoding shows (damage or NaN midway) is raised while iterating.
        """
        path = Path(path)
        if not (np.isfinite(start) and start >= 0):
            raise SpeechError(f"start is {start} s; expected 0 or more")
        if duration is not None and not (np.isfinite(duration) and duration >= _SHORTEST):
            raise SpeechError(f"duration is {duration} s; expected at least {_SHORTEST} s, half a video frame")
        with open_media(path, SpeechError) as container:
            stream = _audio_stream(container, path)
            rate, layout = stream.rate, stream.layout.name
            total = stated_duration(container)
            guess = container.duration / 1e6 if container.duration else None
        if not rate:
            raise SpeechError(f"{path} holds no readable sound; it is cut off, damaged, or not a recording")
        if total is not None and start >= total:
            raise SpeechError(f"start is {start} s, but {path} lasts {total:.2f} s")
        blocks = partial(_decode, path, start, duration)
        samples = 0
        for block in blocks():
            samples += len(block)
            if samples >= _SHORTEST * rate:
                break
        else:
            where = f" after its first {start} s" if start else ""
            raise SpeechError(
                f"{path} holds {samples / rate:.3f} s of sound{where}; expected at least {_SHORTEST} s, half a frame"
            )
        if total is not None:
            _check_whole(path, start, np.inf if duration is None else start + duration, total)
        lengths = [s for s in (guess and guess - start, duration) if s and s > 0]
        seconds = min(lengths, default=None)
        copy = path if start == 0 and duration is None else None
        return Speech(Sound(rate, layout, blocks, copy), path, start, seconds)

    @staticmethod
    def from_array(samples: ArrayLike, rate: int) -> Speech:
        """A voice in memory.

        Args:
            samples: ``[n]`` or ``[n, channels]``; floats in [-1, 1], or integers over their type's whole range.
            rate: samples a second.

        Raises:
            SpeechError: when the shape, the rate or a value is wrong, or it is shorter than half a video frame.
        """
        array = np.asarray(samples)
        if array.ndim == 1:
            array = array[:, None]
        if array.ndim != 2 or not 1 <= array.shape[1] <= 64:
            raise SpeechError(f"samples have shape {np.shape(samples)}; expected [n] or [n, channels]")
        if not rate > 0:
            raise SpeechError(f"rate is {rate}; expected samples a second, such as 16000")
        if array.dtype.kind in "iu":
            limits = np.iinfo(array.dtype)
            middle = 0 if limits.min else (limits.max + 1) / 2
            array = ((array.astype(np.float64) - middle) / ((limits.max + 1) / (1 if limits.min else 2))).astype("f4")
        elif array.dtype.kind == "f":
            array = array.astype(np.float32)
        else:
            raise SpeechError(f"samples have type {array.dtype}; expected floats or integers")
        if len(array) < _SHORTEST * rate:
            raise SpeechError(f"samples last {len(array) / rate:.3f} s; expected at least {_SHORTEST} s, half a frame")
        if not np.isfinite(array).all():
            at = np.flatnonzero(~np.isfinite(array).all(1))[0] / rate
            raise SpeechError(f"samples hold a value that is not a number at {at:.2f} s; clean them first")
        return Speech(Sound(int(rate), _layout(array.shape[1]), partial(_slices, array)), None, 0.0, len(array) / rate)

    @staticmethod
    def say(
        text: str,
        voice: str = "en",
        *,
        rate_wpm: int | None = None,
        pitch: int | None = None,
        pitch_range: int | None = None,
    ) -> Speech:
        """Text spoken by espeak-ng; see :func:`magictalk.audio.tts.stream` for arguments and errors."""
        options = {"rate_wpm": rate_wpm, "pitch": pitch, "pitch_range": pitch_range}
        tts.stream(text, voice, **options)
        spoken = (text, voice, options)
        return Speech(Sound(tts.RATE, "mono", partial(_spoken_blocks, *spoken)), _text=spoken)

    @cached_property
    def phonemes(self) -> tuple[Phoneme, ...] | None:
        """Every sound and pause with its exact times, when the speech comes from text; else None."""
        if self._text is None:
            return None
        found: list[Phoneme] = []
        offset = 0.0
        text, voice, options = self._text
        for piece in tts.stream(text, voice, **options):
            found += [Phoneme(p.symbol, offset + p.start, offset + p.end) for p in piece.phonemes]
            offset += len(piece.samples) / piece.rate
        return tuple(found)

    @property
    def duration(self) -> float | None:
        """Seconds: exact for arrays and text, the container's estimate for files, None when it has none."""
        return self.phonemes[-1].end if self.phonemes else self._seconds

    @staticmethod
    def frame_count(samples: int) -> int:
        """Video frames that go with so many samples at 16 kHz."""
        return round(samples / RATE * FPS)

    def chunks(self, seconds: float = 2.0) -> Iterator[NDArray[np.float32]]:
        """Mono sound at 16 kHz for analysis, from the beginning at each call.

        Yields:
            float32 ``[n]`` in [-1, 1]; all chunks last ``seconds``, only the last is shorter.
        """
        size = round(seconds * RATE)
        if size < 1:
            raise SpeechError(f"chunks of {seconds} s are too short; expected at least one sample")
        parts: list[NDArray[np.float32]] = []
        held = 0
        for block in _resample(_mix(self.sound), self.sound.rate):
            parts.append(block)
            held += len(block)
            if held >= size:
                whole = np.concatenate(parts)
                for i in range(0, held - size + 1, size):
                    yield whole[i : i + size].copy()
                parts, held = [whole[held - held % size :]], held % size
        if held:
            yield np.concatenate(parts)

    def samples(self) -> NDArray[np.float32]:
        """The whole sound, float32 ``[n]`` mono at 16 kHz; about 230 MB an hour."""
        return np.concatenate(list(self.chunks(30.0)))


def _audio_stream(container: av.container.InputContainer, path: Path) -> Any:
    if not container.streams.audio:
        what = "is a video or picture without sound" if container.streams.video else "holds no sound"
        raise SpeechError(f"{path} {what}; expected a recording of speech")
    return container.streams.audio[0]


def _layout(channels: int) -> str:
    return {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")


def _slices(array: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    for i in range(0, len(array), 65536):
        yield array[i : i + 65536]


def _spoken_blocks(text: str, voice: str, options: dict[str, int | None]) -> Iterator[NDArray[np.float32]]:
    for piece in tts.stream(text, voice, **options):
        yield piece.samples[:, None]


def _decode(path: Path, start: float, duration: float | None) -> Iterator[NDArray[np.float32]]:
    """Blocks float32 ``[n, channels]`` at the file's own rate, from ``start`` for ``duration`` seconds.

    Time stamps count: sound that begins after the picture, or has a hole, is padded with silence.
    """
    import av

    with open_media(path, SpeechError) as container:
        stream = _audio_stream(container, path)
        rate, layout = stream.rate, stream.layout.name
        channels = stream.layout.nb_channels
        total = stated_duration(container)
        begin = round(start * rate)
        end = None if duration is None else begin + round(duration * rate)
        origin = start_of(container)
        convert = av.AudioResampler(format="flt", layout=layout, rate=rate)
        at = 0  # the sample that comes next
        try:
            jumped = seek(container, start)
            for frame in container.decode(stream):
                stamp = at if frame.time is None else round((frame.time - origin) * rate)
                if jumped:
                    at, jumped = stamp, False
                hole = stamp - at
                if hole > _GAP * rate and total is not None and stamp <= total * rate:
                    for i in range(max(at, begin), stamp if end is None else min(stamp, end), rate):
                        yield np.zeros((min(rate, stamp - i), channels), np.float32)
                    at = stamp
                for part in convert.resample(frame):
                    block = part.to_ndarray().reshape(-1, channels).astype(np.float32, copy=False)
                    first, at = at, at + len(block)
                    block = block[max(0, begin - first) : None if end is None else max(0, end - first)]
                    if not np.isfinite(block).all():
                        where = max(first, begin) + np.flatnonzero(~np.isfinite(block).all(1))[0]
                        raise SpeechError(
                            f"{path} holds a sample that is not a number at {where / rate:.2f} s; "
                            "clean it, or choose a part with a start and a duration"
                        )
                    if len(block):
                        yield block
                if end is not None and at >= end:
                    return
        except av.FFmpegError as cause:
            if total is None or at / rate < total - 0.5:
                raise SpeechError(_broken(path, start, at / rate, total)) from cause


def _broken(path: Path, start: float, reached: float, total: float | None) -> str:
    left = int(max(0.0, reached - start) * 10) / 10
    of = f" of {total:.2f} s" if total else ""
    hint = f"use --duration {left:.1f} to go on with what is there" if left >= 0.1 else "expected a whole recording"
    return f"{path} is cut off or damaged at {reached:.2f} s{of}; {hint}"


def _check_whole(path: Path, start: float, end: float, total: float) -> None:
    """Raise unless the file holds what lies before ``end``, as far as it says it does; looks without decoding all."""
    import av

    with path.open("rb") as file:
        head = file.read(8)
    promised = int.from_bytes(head[4:8], "little") + 8
    size = path.stat().st_size
    # FFmpeg trusts the file's size over a WAV header; sizes near 2 and 4 GiB are what streamed WAV files write
    if head.startswith(b"RIFF") and size < promised < 0x7FFF0000 and end > total:
        raise SpeechError(_broken(path, start, total, total * promised / size))
    end = min(end, total)
    with open_media(path, SpeechError) as container:
        origin = start_of(container)
        try:
            container.seek(int((origin + max(0.0, end - 0.5)) * 1e6))
            for packet in container.demux():
                if packet.pts is not None and packet.pts * packet.time_base - origin >= end - 1.5:
                    return
        except av.FFmpegError:
            pass  # not every format can seek; decoding will tell
        else:
            raise SpeechError(_broken(path, start, _reach(path), total))


def _reach(path: Path) -> float:
    """Second of the last sound packet that the file holds."""
    import av

    last = 0.0
    with open_media(path, SpeechError) as container:
        origin = start_of(container)
        try:
            for packet in container.demux(_audio_stream(container, path)):
                if packet.pts is not None:
                    last = float(packet.pts * packet.time_base) - origin
        except av.FFmpegError:
            return last
    return last


def _mix(sound: Sound) -> Iterator[NDArray[np.float32]]:
    """One channel ``[n]``: a weighted mean, so that it cannot clip."""
    import av

    weights = np.array([_WEIGHTS.get(c.name, 0.7) for c in av.AudioLayout(sound.layout).channels], np.float32)
    weights = weights if weights.sum() > 0 else np.ones_like(weights)
    weights /= weights.sum()
    for block in sound.blocks():
        yield np.clip(block @ weights, -1, 1)


def _resample(blocks: Iterator[NDArray[np.float32]], rate: int) -> Iterator[NDArray[np.float32]]:
    """Mono ``[n]`` blocks at ``rate`` to 16 kHz."""
    import av

    if rate == RATE:
        yield from blocks
        return
    convert = av.AudioResampler(format="flt", layout="mono", rate=RATE)
    at = 0
    for block in blocks:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block)[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
        at += len(block)
        for part in convert.resample(frame):
            yield np.clip(part.to_ndarray()[0], -1, 1)
    if at:
        for part in convert.resample(None):
            yield np.clip(part.to_ndarray()[0], -1, 1)
