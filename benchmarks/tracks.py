"""Whole raw videos, tracked: benchmarks judge these as they are, unfiltered and uncorrected.

One ``.npz`` a video is kept: ``times [T]`` (seconds, the video's own frames), ``landmarks [T, 478, 3]`` (pixels, NaN
where no face is seen), ``audio`` (int16 at 16 kHz) and ``audio_start`` (seconds).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magictalk.audio.features import SAMPLE_RATE
from magictalk.errors import MotionError, VideoError
from magictalk.motion import FPS

KNOWN_OFFSETS_S = {"demo2show__sample_2_separated.mp4": -0.2}
"""Offsets that the data's README states beside the manifest: the mouth at t matches the sound at t + s."""


@dataclass(frozen=True)
class Entry:
    """One video of the manifest.

    Attributes:
        path: the file.
        split: ``train``, ``val``, ``test`` or ``style``.
        licence_class: ``open``, ``noncommercial``, ``web``, ``generated`` or ``expression``.
        identity: who is seen.
        offset_s: the mouth at time t matches the sound at t + this, as the manifest or its README says; else 0.
    """

    path: Path
    split: str
    licence_class: str
    identity: str
    offset_s: float


@dataclass(frozen=True)
class Clip:
    """A tracked video on the 25 fps grid of its sound.

    Attributes:
        name: the video's file name.
        samples: float32 ``[N]`` at 16 kHz; sample 0 is frame 0.
        landmarks: float32 ``[T, 478, 3]`` pixels, ``T = round(N / 640)``, gaps interpolated.
        seen: bool ``[T]``, where the face was really tracked.
    """

    name: str
    samples: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    seen: NDArray[np.bool_]


def read_manifest(data: Path) -> list[Entry]:
    """The videos listed in ``manifest.csv`` of the data folder.

    Raises:
        VideoError: when there is no manifest in the folder.
    """
    path = data / "manifest.csv"
    if not path.is_file():
        raise VideoError(f"no manifest.csv in {data}; expected the folder of the training data")
    with path.open(newline="") as file:
        return [
            Entry(data / r["file"], r["split"], r["licence_class"], r["identity"], _offset(r["file"], r["sync"]))
            for r in csv.DictReader(file)
            if r["kind"] == "video"
        ]


def _offset(file: str, sync: str) -> float:
    """Seconds from ``offset(+0.20s)``."""
    known = KNOWN_OFFSETS_S.get(Path(file).name, 0.0)
    return float(sync[len("offset(") : -len("s)")]) if sync.startswith("offset(") else known


def track_path(entry: Entry, folder: Path) -> Path:
    """Where a video's clip is kept."""
    return folder / f"{entry.path.name}.npz"


def track(video: Path, out: Path) -> None:
    """Track the face of a video, decode its sound, and write both as described above.

    Raises:
        VideoError: when the file is not a video with sound.
    """
    import av

    from magictalk.face.landmarks import LANDMARKS, FaceTracker

    times: list[float] = []
    meshes: list[NDArray[np.float32]] = []
    try:
        tracker = FaceTracker()
        for time, frame in _frames(video):
            face = tracker(frame)
            times.append(time)
            meshes.append(np.full((LANDMARKS, 3), np.nan, np.float32) if face is None else face.landmarks)
        samples, start = _sound(video)
    except (av.FFmpegError, IndexError, OSError) as error:
        raise VideoError(f"cannot read {video} as a video with sound ({error})") from error
    out.parent.mkdir(parents=True, exist_ok=True)
    pcm = np.clip(np.round(samples * 32767), -32768, 32767).astype(np.int16)
    landmarks = np.stack(meshes) if meshes else np.zeros((0, LANDMARKS, 3), np.float32)
    part = out.with_suffix(".part.npz")
    np.savez(part, times=np.array(times), landmarks=landmarks, audio=pcm, audio_start=start)
    part.replace(out)


def _frames(video: Path) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Times in seconds and upright RGB frames."""
    import av

    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for i, frame in enumerate(container.decode(stream)):
            time = frame.time if frame.time is not None else i / float(stream.average_rate or FPS)
            image = frame.to_ndarray(format="rgb24")
            turns = (frame.rotation // 90) % 4
            yield time, np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def _sound(video: Path) -> tuple[NDArray[np.float32], float]:
    """Mono samples at 16 kHz, and the time of the first in seconds."""
    import av

    parts: list[NDArray[np.float32]] = []
    start: float | None = None
    with av.open(str(video)) as container:
        resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE)
        for frame in container.decode(audio=0):
            start = (frame.time or 0.0) if start is None else start
            parts += [part.to_ndarray()[0] for part in resampler.resample(frame)]
        parts += [part.to_ndarray()[0] for part in resampler.resample(None)]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32), start or 0.0


def load(path: Path) -> Clip:
    """A tracked video on the frame grid: landmarks interpolated in time, the sound's start moved to time 0.

    Raises:
        MotionError: when the video shows no face or has no sound.
    """
    with np.load(path, allow_pickle=False) as data:
        times, landmarks = data["times"], data["landmarks"]
        samples = data["audio"].astype(np.float32) / 32768
        shift = round(float(data["audio_start"]) * SAMPLE_RATE)
    samples = np.concatenate([np.zeros(shift, np.float32), samples]) if shift > 0 else samples[-shift:]
    face = np.isfinite(landmarks).all((1, 2)) if len(landmarks) else np.zeros(0, bool)
    frames = round(len(samples) / SAMPLE_RATE * FPS)
    if face.sum() < 5 or frames < 5:
        raise MotionError(f"{path.stem} has {face.sum()} frames with a face and {frames} of sound; expected 5 or more")
    grid = np.arange(frames) / FPS
    at = np.interp(grid, times[face], np.arange(face.sum()))
    low = np.floor(at).astype(int)
    part = (at - low).astype(np.float32)[:, None, None]
    known = landmarks[face]
    on_grid = (1 - part) * known[low] + part * known[np.minimum(low + 1, len(known) - 1)]
    seen = np.interp(grid, times, face.astype(float)) > 0.99
    seen &= (grid >= times[0] - 0.5 / FPS) & (grid <= times[-1] + 0.5 / FPS)
    return Clip(path.stem, samples, on_grid.astype(np.float32), seen)


def tracked(entry: Entry, folder: Path) -> Clip:
    """A video of the manifest, tracked first where ``folder`` does not hold it yet.

    Raises:
        MotionError, VideoError: as :func:`track` and :func:`load`.
    """
    path = track_path(entry, folder)
    if not path.is_file():
        track(entry.path, path)
    return load(path)
