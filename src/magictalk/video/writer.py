"""Write a video as it is made: under its name only when whole, and so that a broken job can go on where it was."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magictalk.errors import OptionError, VideoError
from magictalk.video.movie import FORMATS, Film
from magictalk.video.sequence import Sequence
from magictalk.video.sound import Sound

_WAITING_BYTES = 64 << 20
"""Frames that may wait for the encoder, together."""
_LONGEST_NAME = 240
"""Bytes: file systems take 255, and the hidden folder's name is longer."""


class VideoWriter:
    """Writes frames, and the sound beside them, to ``.mp4``, ``.webm``, or numbered PNG pictures.

    Use it in a ``with`` statement. Frames are encoded in a thread of their own, in closed segments inside a hidden
    folder beside the output (``.NAME.parts``); at the end of the statement they are joined with the sound and moved
    to the asked name. When the statement ends in an error nothing is left under that name; the hidden folder stays
    if it holds a whole segment, and :attr:`resume_hint` says so.

    Args:
        path: ``NAME.mp4``, ``NAME.webm``, a folder, or a pattern such as ``shot_%05d.png``.
        fps: frames a second.
        sound: what is heard; cut to the length of the picture.
        fingerprint: what the frames depend on; a broken job is continued only when it is the same.
        resume: continue a broken job, if there is one; the first ``done_frames`` frames need not be made again.
        overwrite: replace what is there.
        segment_seconds: length of a segment.

    Attributes:
        done_frames: frames that a broken job had already finished; write the ones after them.

    Raises:
        VideoError: at once, when the path cannot be written or the broken job was another; later, when writing fails.
        OptionError: ``fps`` or ``segment_seconds`` is not positive.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        fps: float = 25.0,
        sound: Sound | None = None,
        fingerprint: Mapping[str, str] | None = None,
        resume: bool = False,
        overwrite: bool = False,
        segment_seconds: float = 20.0,
    ) -> None:
        if not fps > 0 or not segment_seconds > 0:
            raise OptionError(f"fps is {fps} and segment_seconds {segment_seconds}; expected more than 0")
        self._path = Path(path)
        self._sound = sound
        self._fps = Fraction(fps).limit_denominator(1001)
        self._work = self._path.with_name(f".{self._path.name.replace('%', '_')}.parts")
        unit = max(1, round(segment_seconds * self._fps))
        self._job: dict[str, Any] = {"fps": str(self._fps), "segment_frames": unit, **(fingerprint or {})}
        self._check_place()
        broken = self._read_job() if resume else None
        self._resumes = broken is not None
        self._size: tuple[int, ...] | None = None if broken is None else tuple(broken["size"])
        self._store: Film | Sequence
        if self._path.suffix.lower() in FORMATS:
            self._store = Film(self._path, self._work, self._fps, unit, self._resumes)
        else:
            self._store = Sequence(self._path, self._work, self._resumes)
        there = self._store.existing()
        if there and not overwrite:
            raise VideoError(f"{there[0]} exists; give another name, or allow it to be replaced (--overwrite)")
        self.done_frames = self._store.frames
        self.resume_hint: str | None = None
        """After an error: how to go on from what is kept; None when nothing is."""
        self._waiting: deque[Future[None]] = deque()
        self._failed = False
        self._encoder = ThreadPoolExecutor(1, "encoder")

    def _check_place(self) -> None:
        path, suffix = self._path, self._path.suffix.lower()
        if suffix not in (*FORMATS, ".png", ""):
            raise VideoError(
                f"cannot write {path}; expected a name in .mp4 or .webm, a folder for png pictures, or shot_%05d.png"
            )
        if len(os.fsencode(path.name)) > _LONGEST_NAME:
            raise VideoError(f"{path} cannot be written; expected a name of at most {_LONGEST_NAME} bytes")
        if path.is_dir() if suffix else path.is_file():
            raise VideoError(f"{path} is a {'folder' if suffix else 'file'}; give another name")
        if not path.parent.is_dir():
            raise VideoError(f"no folder at {path.parent}; create it first")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise VideoError(f"nothing may be written to {path.parent}; check its permissions")

    def _read_job(self) -> dict[str, Any] | None:
        """The broken job's description, None when there is none."""
        try:
            job = json.loads((self._work / "job.json").read_text("utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise VideoError(f"cannot resume {self._path} ({error}); run it again without --resume") from error
        for key in sorted({*self._job, *job} - {"size"}):
            was, now = job.get(key), self._job.get(key)
            if was != now:
                raise VideoError(
                    f"cannot resume {self._path}: {key} was {was}, now {now}; ask for the same, or leave out --resume"
                )
        return job

    def _clear_work(self) -> None:
        if self._work.exists():
            if any(self._work.iterdir()) and not (self._work / "job.json").is_file():
                raise VideoError(f"{self._work} is in the way and not a video job's; move it")
            shutil.rmtree(self._work)

    def __enter__(self) -> VideoWriter:
        try:
            if not self._resumes:
                self._clear_work()
            self._work.mkdir(exist_ok=True)
        except OSError as error:
            raise self._explain(error) from error
        return self

    @property
    def frames(self) -> int:
        """Frames in whole segments on the disk so far."""
        return self._store.frames

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Hand over the next frame, uint8 RGB ``[H, W, 3]``; it is copied, and waits while the encoder is behind.

        Raises:
            VideoError: when its shape or type is wrong or differs from earlier ones, or encoding failed meanwhile.
        """
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise VideoError(f"a frame is {frame.dtype} {list(frame.shape)}; expected uint8 [height, width, 3]")
        if self._size is None:
            self._begin(frame.shape)
        elif frame.shape != self._size:
            raise VideoError(f"a frame is {list(frame.shape)}, earlier ones were {list(self._size)}; keep one size")
        while len(self._waiting) >= max(2, min(16, _WAITING_BYTES // frame.nbytes)):
            self._take_result()
        self._waiting.append(self._encoder.submit(self._encode, frame.copy()))

    def _begin(self, size: tuple[int, ...]) -> None:
        self._size = size
        try:
            part = self._work / "job.part"
            part.write_text(json.dumps({**self._job, "size": size}, indent=1), "utf-8")
            os.replace(part, self._work / "job.json")
        except OSError as error:
            raise self._explain(error) from error

    def _encode(self, frame: NDArray[np.uint8]) -> None:
        if not self._failed:
            try:
                self._store.write(frame)
            except BaseException:
                self._failed = True  # a frame is missing now: no segment after it may count as whole
                raise

    def _take_result(self) -> None:
        import av

        try:
            self._waiting.popleft().result()
        except (OSError, av.FFmpegError) as error:
            raise self._explain(error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import av

        try:
            if kind is None:
                while self._waiting:
                    self._take_result()
                if self._size is None:
                    raise VideoError(f"no frame was written to {self._path}; expected at least one")
                self._store.finish(self._sound, self._fps)
        except BaseException as failure:
            self._abandon()
            if isinstance(failure, (OSError, av.FFmpegError)):
                raise self._explain(failure) from failure
            raise
        if kind is None:
            self._encoder.shutdown()
            shutil.rmtree(self._work)
        else:
            self._abandon()

    def _abandon(self) -> None:
        self._failed = True
        self._encoder.shutdown(cancel_futures=True)
        self._store.abandon()
        if self._store.frames >= self._store.unit:
            for part in self._work.glob("*.part"):
                part.unlink()
            self.resume_hint = f"{self._store.frames} frames are kept; the same with --resume goes on after them"
        else:
            shutil.rmtree(self._work, ignore_errors=True)

    def _explain(self, error: Exception) -> VideoError:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return VideoError(f"no space left for {self._path}; free some, or write elsewhere")
        return VideoError(f"{self._path} cannot be written ({getattr(error, 'strerror', None) or error})")
