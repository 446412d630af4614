"""Videos that are made while they are read or saved."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from magictalk.drive import mix
from magictalk.motion import FPS, Motion
from magictalk.portrait import Portrait
from magictalk.speech import Speech

if TYPE_CHECKING:
    from magictalk.render.diffusion.clip_render import ClipRender
    from magictalk.render.diffusion.render import DiffusionRender
    from magictalk.render.rig import RigRender

Generates: TypeAlias = "DiffusionRender | ClipRender"
"""What makes frames by diffusion."""
Progress = Callable[[int, int | None], None]
"""Called with the frames finished and the frames expected, None while that is not known."""


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
