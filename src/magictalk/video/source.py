"""Open media files, and read videos onto the frame grid."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from magictalk.errors import MagicTalkError, VideoError

if TYPE_CHECKING:
    import av.container

_INDEXED = ("mov", "matroska", "wav", "avi", "flac")
"""Formats that state their duration and whose seeks land where they say; of others both are estimates."""


_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
"""The colour matrix a file is marked with (ISO/IEC 23091-2) to swscale's: BT.709, FCC, BT.601, SMPTE 240M, BT.2020."""


@dataclass(frozen=True)
class VideoInfo:
    """What a video file is.

    Attributes:
        width: as displayed, in pixels.
        height: as displayed, in pixels.
        fps: mean frames a second.
        duration: seconds, the container's own estimate.
        has_audio: whether it carries sound.
    """

    width: int
    height: int
    fps: float
    duration: float
    has_audio: bool


def open_media(path: str | Path, error: type[MagicTalkError]) -> av.container.InputContainer:
    """Open a media file with PyAV.

    Raises:
        MagicTalkError: of the given type, when the file is missing, a folder, empty, unreadable, or not media.
    """
    import av

    path = Path(path)
    if path.is_dir():
        raise error(f"{path} is a folder; expected a media file")
    if not path.is_file():
        raise error(f"no file at {path}")
    if not os.access(path, os.R_OK):
        raise error(f"{path} may not be read; check its permissions")
    if path.stat().st_size == 0:
        raise error(f"{path} is empty; expected a media file")
    try:  # the prefix keeps names such as "12:30.mp4" from being read as a protocol
        return av.open(f"file:{path}", metadata_errors="replace")
    except (av.FFmpegError, OSError) as cause:
        raise error(f"{path} cannot be opened ({_reason(cause)}); it is cut off, damaged, or not media") from cause


def _reason(cause: BaseException) -> str:
    return getattr(cause, "strerror", None) or str(cause)


def start_of(container: av.container.InputContainer) -> float:
    """Second on the file's own clock at which its first stream begins."""
    return (container.start_time or 0) / 1e6


def stated_duration(container: av.container.InputContainer) -> float | None:
    """Seconds the file says it lasts; None where FFmpeg could only guess."""
    if container.duration and container.format.name.startswith(_INDEXED):
        return container.duration / 1e6
    return None


def seek(container: av.container.InputContainer, seconds: float) -> bool:
    """Go to a little before ``seconds`` after the start where the format can; whether it was done."""
    if seconds < 5 or not container.format.name.startswith(_INDEXED):
        return False
    container.seek(int((start_of(container) + seconds - 1) * 1e6))
    return True


def _video_stream(container: av.container.InputContainer, path: Path) -> Any:
    import av

    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        what = "holds sound only" if container.streams.audio else "holds no video"
        raise VideoError(f"{path} {what}; expected a video")
    streams[0].thread_type = "AUTO"
    return streams[0]


def _picture(frame: Any, aspect: Any) -> NDArray[np.uint8]:
    """A decoded frame as displayed: uint8 RGB ``[H, W, 3]``, square pixels, upright."""
    width = max(1, round(frame.width * aspect)) if aspect else frame.width
    # unmarked: the convention of players
    matrix = _MATRICES.get(frame.colorspace) or (1 if min(frame.width, frame.height) >= 720 else 5)
    picture = frame.reformat(width=width, format="rgb24", src_colorspace=matrix).to_ndarray()
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture


def probe(path: str | Path) -> VideoInfo:
    """What a video file is, seen from its header and first frame.

    Raises:
        VideoError: when it is missing, empty, damaged, or no video.
    """
    import av

    path = Path(path)
    with open_media(path, VideoError) as container:
        stream = _video_stream(container, path)
        try:
            first = next(container.decode(stream))
        except (StopIteration, av.FFmpegError) as cause:
            raise VideoError(f"no frame of {path} can be decoded; it is cut off, damaged, or not a video") from cause
        height, width = _picture(first, stream.sample_aspect_ratio).shape[:2]
        fps = float(stream.average_rate or stream.guessed_rate or 25)
        if container.duration:
            duration = container.duration / 1e6
        else:
            duration = float(stream.duration * stream.time_base) if stream.duration else 1 / fps
        return VideoInfo(width, height, fps, duration, bool(container.streams.audio))


def read_frames(
    path: str | Path, fps: float = 25.0, start: float = 0.0, duration: float | None = None
) -> Iterator[NDArray[np.uint8]]:
    """Frames of a video on the frame grid, one at a time.

    Frame ``k`` is the one displayed nearest to ``start + k / fps`` seconds. Rotated, anamorphic, 10-bit and
    variable-rate videos come out upright, square, 8-bit and regular.

    Args:
        path: any video file FFmpeg reads.
        fps: frames a second of the grid.
        start: seconds from the file's beginning.
        duration: seconds to read; None for all.

    Returns:
        Iterator over uint8 RGB ``[H, W, 3]``.

    Raises:
        VideoError: when the file is missing, empty or no video, at once; when it is damaged midway, while iterating.
    """
    info = probe(path)
    if start < 0 or (start > 0 and start >= info.duration):
        raise VideoError(f"start is {start} s; {path} lasts {info.duration:.2f} s")
    if duration is not None and duration <= 0:
        raise VideoError(f"duration is {duration} s; expected more than 0")
    return _grid(Path(path), info, fps, start, duration)


def _timed(path: Path, info: VideoInfo, start: float) -> Iterator[tuple[float, Any, Any]]:
    """``(seconds since the file's beginning, decoded frame, pixel aspect)`` from a little before ``start``."""
    import av

    time = 0.0
    with open_media(path, VideoError) as container:
        stream = _video_stream(container, path)
        origin = start_of(container)
        length = float(stream.duration * stream.time_base) if stream.duration else 0.0
        try:
            seek(container, start)
            for i, frame in enumerate(container.decode(stream)):
                time = i / info.fps if frame.time is None else frame.time - origin
                yield time, frame, stream.sample_aspect_ratio
        except av.FFmpegError as cause:
            if time < info.duration - 0.5:
                raise VideoError(_broken(path, time, start, info.duration)) from cause
        if time + 1 / info.fps < length - 0.5:
            raise VideoError(_broken(path, time, start, length))


def _broken(path: Path, time: float, start: float, length: float) -> str:
    return (
        f"{path} is cut off or damaged at {time:.2f} s of {length:.2f} s; "
        f"give a duration up to {max(0.0, time - start):.2f} s to use what is there"
    )


def _grid(path: Path, info: VideoInfo, fps: float, start: float, duration: float | None) -> Iterator[NDArray[np.uint8]]:
    wanted = None if duration is None else round(duration * fps)
    k = 0
    held: tuple[float, Any, Any] | None = None
    for timed in _timed(path, info, start):
        if held is not None:
            while start + k / fps < (held[0] + timed[0]) / 2:
                if k == wanted:
                    return
                yield _picture(*held[1:])
                k += 1
        held = timed
    if held is not None:
        last = round((held[0] + 1 / info.fps - start) * fps)
        while k < last and k != wanted:
            yield _picture(*held[1:])
            k += 1
