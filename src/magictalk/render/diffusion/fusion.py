"""Progressive latent fusion: videos of any length from a network that sees N frames (MAGIC-Talk, section 3.4).

Without training: a video is cut into segments that overlap. At every denoising step each segment is denoised by
itself, then neighbours are blended where they overlap, and the next step goes on from there. So what one segment knows
travels through the whole video, yet the network never sees more than a few segments. Latents wait on the disk:
memory does not grow with the video, and a job that broke off goes on at the step where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from magictalk.errors import OptionError

FRAMES = 16
"""N, frames of a segment."""
OVERLAP = 8
"""C, frames that neighbours share."""


@dataclass(frozen=True)
class Segments:
    """How a video is cut.

    Attributes:
        length: frames of the video.
        frames: N, of a segment; a shorter video is one shorter segment.
        overlap: C, at least so many frames are shared by neighbours; the last segment shares more where it must to end
            with the video.

    Raises:
        OptionError: unless ``0 <= C < N`` and there is a frame.
    """

    length: int
    frames: int = FRAMES
    overlap: int = OVERLAP

    def __post_init__(self) -> None:
        if self.length < 1:
            raise OptionError(f"the video has {self.length} frames; expected 1 or more")
        if not 0 <= self.overlap < self.frames:
            raise OptionError(
                f"segments of {self.frames} frames overlap by {self.overlap}; expected 0 to {self.frames - 1}"
            )

    @property
    def size(self) -> int:
        """Frames of each segment."""
        return min(self.frames, self.length)

    def starts(self) -> list[int]:
        """First frames of the segments."""
        last = self.length - self.size
        return [*range(0, last, self.frames - self.overlap), last]


def blend(before: Tensor, after: Tensor) -> Tensor:
    """Two segments where they overlap, frames first: ``alpha_j after + (1 - alpha_j) before``, ``alpha_j = j / C``.

    Equations 4 and 5 as the text around them explains them: at j = 0 the frame is the earlier segment's, at j = C, the
    first frame behind the overlap, the later one's. Equation 4 as printed has the segments the other way round.
    """
    c = len(before)
    alpha = torch.arange(c, dtype=before.dtype, device=before.device) / max(c, 1)
    return torch.lerp(before, after, alpha.view(-1, *[1] * (before.ndim - 1)))


Denoise = Callable[[Tensor, Sequence[int]], Tensor]
"""Segments ``[S, N, ...]`` and their first frames, to the same segments a step less noisy."""
Read = Callable[[int, int], Tensor]
"""Latents of frames from one number to another, ``[n, ...]``."""


def fuse(read: Read, segments: Segments, denoise: Denoise, batch: int = 1) -> Iterator[Tensor]:
    """One denoising step of a whole video: each segment by itself, then neighbours blended.

    Args:
        read: latents before the step.
        segments: the cut.
        denoise: the step on some segments.
        batch: segments that are denoised at once.

    Yields:
        The latents after the step from the first frame to the last, each frame once, a few at a time.
    """
    starts, held, first = segments.starts(), torch.zeros(0), 0  # held: frames from first on that may still change
    for i in range(0, len(starts), batch):
        some = starts[i : i + batch]
        before = torch.stack([read(start, start + segments.size) for start in some])
        for start, after in zip(some, denoise(before, some), strict=True):
            if start > first:
                yield held[: start - first]
            held, first = held[start - first :], start
            overlap = len(held)
            held = torch.cat([blend(held, after[:overlap]), after[overlap:]]) if overlap else after
    yield held


class Latents:
    """Latents of a video on the disk, one step of its denoising at a time.

    Args:
        folder: where they lie; it is made.
        shape: of one frame's latents, such as ``(4, 64, 64)``.
        job: what they depend on; latents of another job in the folder are not gone on with.
    """

    def __init__(self, folder: Path, shape: Sequence[int], job: str) -> None:
        self.folder, self.shape = folder, tuple(shape)
        self._numbers = int(np.prod(self.shape))
        folder.mkdir(parents=True, exist_ok=True)
        facts = folder / "job.json"
        stated = json.dumps({"job": job, "shape": self.shape})
        if not facts.is_file() or facts.read_text() != stated:
            for path in folder.glob("step-*.f32*"):
                path.unlink()
            facts.write_text(stated)

    @property
    def done(self) -> int | None:
        """Steps that are finished, 0 being the noise; None when there is nothing yet."""
        return max((int(path.stem[5:]) for path in self.folder.glob("step-*.f32")), default=None)

    def keep(self, step: int, latents: Iterator[Tensor]) -> None:
        """Write what is left after a step, frame after frame; the step before is dropped once that is whole."""
        part = self._path(step).with_suffix(".f32.part")
        with part.open("wb") as file:
            for some in latents:
                file.write(some.detach().float().cpu().contiguous().numpy().tobytes())
        part.replace(self._path(step))
        self._path(step - 1).unlink(missing_ok=True)

    def read(self, first: int, last: int) -> Tensor:
        """Latents ``[last - first, ...]`` of the last finished step, float32."""
        done = self.done
        assert done is not None
        rows = np.fromfile(
            self._path(done), np.float32, (last - first) * self._numbers, offset=4 * self._numbers * first
        )
        return torch.from_numpy(rows).view(-1, *self.shape)

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step}.f32"


def noise(frames: int, shape: Sequence[int], seed: int, shared: float = 0.0, first: int = 0) -> Iterator[Tensor]:
    """Gaussian noise ``[1, ...]`` for each frame: a frame's depends on the seed and its number, not on the length.

    Args:
        frames: how many.
        shape: of one frame's latents.
        seed: of all.
        shared: share of the variance that all frames have in common (see :func:`mixed`).
        first: number of the first.
    """
    common = _drawn(shape, [seed, 0, 1])  # no frame's: a seed sequence is the same with zeros at its end
    for frame in range(first, first + frames):
        yield mixed(common, _drawn(shape, [seed, frame]), shared)


def mixed(common: Tensor, own: Tensor, shared: float) -> Tensor:
    """``sqrt(shared) common + sqrt(1 - shared) own``: of the spread of both, whatever the share (PYoCo, section 4.1).

    Frames that share noise are drawn alike, where frames of their own noise each flicker.
    """
    return common * shared**0.5 + own * (1 - shared) ** 0.5


def _drawn(shape: Sequence[int], seed: Sequence[int]) -> Tensor:
    one = int(np.random.SeedSequence(seed).generate_state(1)[0])
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(one))
