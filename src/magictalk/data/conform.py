"""What is written of a kept clip: the head crop with its sound, the sound alone, and what is known of each frame."""

from __future__ import annotations

import heapq
import wave
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from magictalk.face.contour import contour
from magictalk.face.rig import BROWS, LIDS, LIPS, VideoFit, fill_gaps
from magictalk.speech import FPS, RATE
from magictalk.video import Sound
from magictalk.video.movie import encode_sound

_X264 = {"crf": "18", "preset": "veryfast", "x264-params": "mbtree=0"}
"""Without macroblock trees, which made other bytes of the same frames now and then at sizes such as 192."""
_BT709, _LIMITED = 1, 1
"""Colour matrix and range of the videos, by ISO/IEC 23091-2's numbers."""
_LIP_MARGIN, _EXPRESSION_MARGIN = 0.3, 0.15
"""Around lips, and around brows and lids, in widths of either."""


def write_video(path: Path, frames: Iterable[NDArray[np.uint8]], size: int, samples: NDArray[np.float32]) -> None:
    """An mp4 at 25 fps of RGB frames ``[size, size, 3]`` (H.264, CRF 18) and 16 kHz mono sound ``[N]`` (AAC).

    The same frames and sound give the same bytes, on any number of cores. Unlike the videos that MagicTalk
    renders it carries no mark of being synthetic: it is a recording.
    """
    import av

    with av.open(f"file:{path}", "w", format="mp4", options={"movflags": "+faststart"}) as container:
        film: Any = container.add_stream("libx264", rate=FPS, options=_X264)
        film.width = film.height = size
        film.pix_fmt = "yuv420p"
        context = film.codec_context
        context.time_base, context.thread_count, context.gop_size = Fraction(1, FPS), 1, 2 * FPS
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = _LIMITED
        voice = container.add_stream("aac", rate=RATE, layout="mono")
        sound = Sound(RATE, "mono", lambda: iter([samples[:, None]]))
        tracks = [_encoded(frames, film), encode_sound(sound, voice, len(samples) / RATE)]
        for _, packet in heapq.merge(*tracks, key=lambda timed: timed[0]):
            container.mux(packet)


def _encoded(frames: Iterable[NDArray[np.uint8]], film: Any) -> Iterator[tuple[float, Any]]:
    """``(second, packet)`` of frames encoded by a video stream."""
    import av
    from av.video.reformatter import ColorRange, Colorspace

    for t, frame in enumerate(frames):
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        picture.pts, picture.time_base = t, Fraction(1, FPS)
        for packet in film.encode(picture):
            yield float(packet.dts * packet.time_base), packet
    for packet in film.encode(None):
        yield float(packet.dts * packet.time_base), packet


def write_sound(path: Path, samples: NDArray[np.float32]) -> None:
    """A WAV file, 16 bit, of mono sound ``[N]`` at 16 kHz in [-1, 1]."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32767).round().astype("<i2").tobytes())


def annotate(
    landmarks: NDArray[np.float32], fit: VideoFit, embedding: NDArray[np.float32], first: NDArray[np.uint8]
) -> dict[str, NDArray[Any]]:
    """What is known of each frame of a conformed clip.

    Args:
        landmarks: float32 ``[T, 478, 3]``, pixels of the crop, NaN where the face is out of sight.
        fit: the rig's fit to them.
        embedding: float32 ``[128]``, of the person.
        first: the first frame that shows the face, RGB ``[S, S, 3]``.

    Returns:
        Arrays by name: ``landmarks`` with gaps interpolated, ``seen [T]``, ``coefficients [T, 52]``,
        ``head [T, 6]`` as :meth:`magictalk.motion.Motion.from_video` has it, the pose's ``rotation [T, 3]``,
        ``origin_px [T, 2]``, ``scale_px [T]``, ``depth_px [T]``, ``neutral [478, 3]``, ``contour`` (packed bits,
        uint8 ``[S, S/8]``), ``lip_box`` and ``expression_box [T, 4]`` (x, y, w, h), ``embedding [128]``.
    """
    seen = np.isfinite(landmarks[:, 0, 0])
    whole = fill_gaps(landmarks.astype(np.float64)).astype(np.float32)
    start = int(np.argmax(seen))
    head = gaussian_filter1d(fit.pose.head_since(fit.pose[start]), 0.8, axis=0, mode="nearest")
    small = {
        "coefficients": fit.coefficients,
        "head": head,
        "rotation": fit.pose.rotation,
        "origin_px": fit.pose.origin_px,
        "scale_px": fit.pose.scale_px,
        "depth_px": fit.pose.depth_px,
        "neutral": fit.neutral,
        "lip_box": boxes(whole, LIPS, _LIP_MARGIN),
        "expression_box": boxes(whole, (*BROWS, *LIDS), _EXPRESSION_MARGIN),
        "embedding": embedding,
    }
    return {
        "landmarks": whole,
        "seen": seen,
        "contour": np.packbits(contour(first, whole[start]), axis=1),
        **{name: np.asarray(values, np.float32) for name, values in small.items()},
    }


def boxes(landmarks: NDArray[np.float32], points: Iterable[int], margin: float) -> NDArray[np.float32]:
    """Box ``[T, 4]`` (x, y, w, h) around points of meshes ``[T, 478, 3]``, wider by ``margin`` widths all round."""
    chosen = landmarks[:, sorted(points), :2]
    low, high = chosen.min(1), chosen.max(1)
    room = margin * (high[:, :1] - low[:, :1])
    return np.concatenate([low - room, high - low + 2 * room], 1)
