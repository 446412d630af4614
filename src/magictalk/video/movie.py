"""One film: frames into closed segments, then segments and sound into one file without encoding again."""

from __future__ import annotations

import contextlib
import heapq
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magictalk.errors import VideoError
from magictalk.video.mark import metadata
from magictalk.video.sound import Sound


@dataclass(frozen=True)
class Format:
    """How one kind of file is encoded.

    Attributes:
        video: FFmpeg's encoder of the picture.
        options: of that encoder.
        audio: FFmpeg's encoder of the sound.
        bit_rate: of the sound, for up to two channels; a third of it for each further one.
        rates: samples a second that the sound encoder takes; others are resampled to the last.
        copies: sound codecs whose packets the container takes unchanged.
        container: options of the container.
    """

    video: str
    options: dict[str, str]
    audio: str
    bit_rate: int
    rates: tuple[int, ...]
    copies: tuple[str, ...]
    container: dict[str, str]


FORMATS = {
    ".mp4": Format(
        "libx264",
        {"crf": "18", "preset": "veryfast"},
        "aac",
        192_000,
        (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
        ("aac",),
        {"movflags": "+faststart"},
    ),
    ".webm": Format(
        "libvpx-vp9",
        {"crf": "20", "b": "0", "deadline": "realtime", "cpu-used": "7", "row-mt": "1", "lag-in-frames": "0"},
        "libopus",
        160_000,
        (48000,),
        ("opus", "vorbis"),
        {},
    ),
}
"""By the file's suffix."""

_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 8: "7.1"}
"""Channel layouts that the sound encoders take."""
_SEGMENT = re.compile(r"(\d+)-(\d+)\.\w+")
_BT709 = 1
_LIMITED = 1


class _Segment:
    """A closed piece of film being written to ``path``; frames are padded to even sizes by repeating the edge."""

    def __init__(self, path: Path, suffix: str, fps: Fraction, height: int, width: int) -> None:
        import av

        form = FORMATS[suffix]
        self._container = av.open(f"file:{path}", "w", format=suffix[1:])
        stream: Any = self._container.add_stream(form.video, rate=fps, options=form.options)
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = 1 / fps
        context.gop_size = round(2 * fps)
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = _LIMITED
        self._stream, self.frames = stream, 0

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Encode one uint8 RGB frame ``[H, W, 3]``."""
        import av
        from av.video.reformatter import ColorRange, Colorspace

        height, width = frame.shape[:2]
        if height % 2 or width % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        picture.pts, picture.time_base = self.frames, self._stream.codec_context.time_base
        self._container.mux(self._stream.encode(picture))
        self.frames += 1

    def close(self) -> None:
        """Flush the encoder and finish the file."""
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def abandon(self) -> None:
        """Let go of a file that will be thrown away."""
        import av

        with contextlib.suppress(av.FFmpegError, OSError):  # the disk that made it fail may still be full
            self._container.close()


class Film:
    """A film in the making: whole segments, and perhaps one that is open.

    Args:
        target: the file to be.
        work: the folder that holds the segments until all is done.
        fps: frames a second.
        unit: frames in a segment.
        resume: count the whole segments that are there.
    """

    def __init__(self, target: Path, work: Path, fps: Fraction, unit: int, resume: bool) -> None:
        self._target, self._work, self._fps, self.unit = target, work, fps, unit
        self._suffix = target.suffix.lower()
        self._open: _Segment | None = None
        self._whole: list[tuple[Path, int]] = []
        found = {int(m[1]): (p, int(m[2])) for p in work.glob("*") if (m := _SEGMENT.fullmatch(p.name))}
        while resume and len(self._whole) in found:
            self._whole.append(found[len(self._whole)])

    @property
    def frames(self) -> int:
        """Frames in whole segments."""
        return sum(count for _, count in self._whole)

    def existing(self) -> list[Path]:
        """What is already there under the name this would write."""
        return [self._target] if self._target.exists() else []

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Encode one uint8 RGB frame ``[H, W, 3]``."""
        if self._open is None:
            self._open = _Segment(self._work / "open.part", self._suffix, self._fps, *frame.shape[:2])
        self._open.write(frame)
        if self._open.frames == self.unit:
            self._close()

    def _close(self) -> None:
        if self._open is not None:
            self._open.close()
            path = self._work / f"{len(self._whole):06d}-{self._open.frames}{self._suffix}"
            os.replace(self._work / "open.part", path)
            self._whole.append((path, self._open.frames))
            self._open = None

    def finish(self, sound: Sound | None, fps: Fraction) -> None:
        """Join all segments and the sound, and move the whole file to its place."""
        self._close()
        joined = self._work / "joined.part"
        _join(self._whole, sound, joined, self._suffix, fps)
        os.replace(joined, self._target)

    def abandon(self) -> None:
        """Let go of the open segment."""
        if self._open is not None:
            self._open.abandon()


def _join(segments: list[tuple[Path, int]], sound: Sound | None, target: Path, suffix: str, fps: Fraction) -> None:
    """Copy the packets of ``(segment, frames)`` one after another, and the sound beside them, into ``target``.

    Raises:
        VideoError: when a segment does not hold the frames it should.
    """
    import av

    form = FORMATS[suffix]
    total = sum(count for _, count in segments)
    limit = (total + 0.5) / float(fps)
    with av.open(f"file:{target}", "w", format=suffix[1:], options=form.container) as container:
        container.metadata.update(metadata())
        with av.open(f"file:{segments[0][0]}") as first:
            picture = container.add_stream_from_template(first.streams.video[0])
        tracks = [_film(segments, picture, fps)]
        if sound is not None:
            tracks.append(_copied(sound, container, form, limit) or _encoded(sound, container, form, limit))
        for _, packet in heapq.merge(*tracks, key=lambda timed: timed[0]):
            container.mux(packet)


def _film(segments: list[tuple[Path, int]], stream: Any, fps: Fraction) -> Iterator[tuple[float, Any]]:
    import av

    offset = 0
    delay: int | None = None  # frames between decoding and display; a segment of a frame or two would claim none
    for path, count in segments:
        seen = 0
        with av.open(f"file:{path}") as container:
            for packet in container.demux(video=0):
                if packet.pts is None or packet.dts is None:
                    continue
                base = packet.time_base * fps
                if delay is None:
                    delay = -round(packet.dts * base)
                packet.pts, packet.dts = offset + round(packet.pts * base), offset + seen - delay
                packet.duration, packet.time_base, packet.stream = 1, 1 / fps, stream
                seen += 1
                yield float(packet.dts / fps), packet
        if seen != count:
            raise VideoError(f"{path} holds {seen} frames, expected {count}; it is damaged: start again without resume")
        offset += count


def _copied(sound: Sound, container: Any, form: Format, limit: float) -> Iterator[tuple[float, Any]] | None:
    """The packets of the sound's own file, if the container takes them as they are."""
    import av

    if sound.copy_from is None:
        return None
    source = av.open(f"file:{sound.copy_from}", metadata_errors="replace")
    if source.streams.audio[0].codec_context.name not in form.copies:
        source.close()
        return None
    stream = container.add_stream_from_template(source.streams.audio[0])
    return _copy_packets(source, stream, limit)


def _copy_packets(source: Any, stream: Any, limit: float) -> Iterator[tuple[float, Any]]:
    with source:
        origin = (source.start_time or 0) / 1e6
        for packet in source.demux(audio=0):
            if packet.pts is None or packet.dts is None:
                continue
            time = float(packet.pts * packet.time_base) - origin
            if time >= limit:
                return
            shift = round(origin / packet.time_base)
            packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
            yield time, packet


def _encoded(sound: Sound, container: Any, form: Format, limit: float) -> Iterator[tuple[float, Any]]:
    import av

    named = av.AudioLayout(sound.layout)
    channels = named.nb_channels
    if named.channels[0].name == "NONE" and channels not in _LAYOUTS:
        sound, channels = replace(sound, layout="mono", blocks=partial(_mean, sound)), 1
    rate = sound.rate if sound.rate in form.rates else form.rates[-1]
    stream = container.add_stream(form.audio, rate=rate, layout=_LAYOUTS.get(channels, "stereo"))
    stream.bit_rate = form.bit_rate + form.bit_rate // 3 * max(0, channels - 2)
    return encode_sound(sound, stream, limit)


def _mean(sound: Sound) -> Iterator[NDArray[np.float32]]:
    """All channels as one, where nothing is known of their places."""
    for block in sound.blocks():
        yield block.mean(1, keepdims=True)


def encode_sound(sound: Sound, stream: Any, limit: float) -> Iterator[tuple[float, Any]]:
    """``(second, packet)`` of the sound up to ``limit`` seconds, encoded by an audio stream of an output file."""
    import av

    context = stream.codec_context
    context.open(strict=False)
    convert = av.AudioResampler(
        format=context.format.name, layout=context.layout.name, rate=context.sample_rate, frame_size=context.frame_size
    )
    for frame in _frames(sound, round(limit * sound.rate)):
        for part in convert.resample(frame):
            yield from _timed(stream.encode(part))
    for part in convert.resample(None):
        yield from _timed(stream.encode(part))
    yield from _timed(stream.encode(None))


def _timed(packets: Iterable[Any]) -> Iterator[tuple[float, Any]]:
    for packet in packets:
        yield float((packet.dts or 0) * packet.time_base), packet


def _frames(sound: Sound, limit: int) -> Iterator[Any]:
    """The first ``limit`` samples of a sound as FFmpeg's frames of at most a second."""
    import av

    named = av.AudioLayout(sound.layout)
    layout = _LAYOUTS.get(named.nb_channels, sound.layout) if named.channels[0].name == "NONE" else sound.layout
    at = 0
    for block in sound.blocks():
        for i in range(0, len(block), sound.rate):
            piece = np.ascontiguousarray(block[i : min(i + sound.rate, i + limit - at)])
            if not len(piece):
                return
            frame = av.AudioFrame.from_ndarray(piece.reshape(1, -1), format="flt", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = sound.rate, at, Fraction(1, sound.rate)
            at += len(piece)
            yield frame
