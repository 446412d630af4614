"""MCDM's render: a portrait and motion to frames, clip after clip, for as long as motion comes (section 3.5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from magictalk.errors import OptionError
from magictalk.motion import Motion
from magictalk.portrait import Portrait
from magictalk.render.diffusion.clip_by_clip import FRAMES, Carried, ClipByClip
from magictalk.render.diffusion.denoising import Progress
from magictalk.render.diffusion.memory import ALPHA
from magictalk.render.diffusion.render import Drawing, Frame, head_of, resized
from magictalk.render.diffusion.sequence import Frames
from magictalk.render.rig import RigRender

STATE = "carried.safetensors"
"""In the folder of a job: what the last finished clip hands on."""


@dataclass(frozen=True)
class ClipNetworks:
    """What a tier brings.

    Attributes:
        video: autoencoder and network.
        tokens: motion ``[n, 58]``, coefficients and head, to motion tokens ``[n, 3, W]``.
        side: pixels of the square frames.
    """

    video: ClipByClip
    tokens: Callable[[Tensor], Tensor]
    side: int


@dataclass(frozen=True)
class ClipDrawing(Drawing):
    """How frames are drawn, by motion alone.

    Attributes:
        alpha: how much of what is remembered is kept from frame to frame, 0 to 1 (equation 5).
        anchor: how much of the portrait is mixed into the archive, 0 to 1; 0 is the paper's.

    Raises:
        OptionError: when alpha or anchor is out of range, or something is asked for that this system does not look at.
    """

    alpha: float = ALPHA
    anchor: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, share in (("alpha", self.alpha), ("anchor", self.anchor)):
            if not 0 <= share <= 1:
                raise OptionError(f"{name} is {share:g}; expected 0 to 1")
        for name, value in (("prompt", self.prompt), ("contour", self.contour)):
            if value is not None:
                raise OptionError(f"mcdm draws what the portrait shows and looks at no {name}; leave it out")


class ClipRender:
    """Motion to square frames of a head, by MCDM's network.

    Args:
        portrait: who.
        drawing: how.
        networks: by what.
    """

    def __init__(self, portrait: Portrait, drawing: ClipDrawing, networks: ClipNetworks) -> None:
        self._drawing, self._networks = drawing, networks
        side = networks.side
        self.frame_size = side, side
        self.portrait = head_of(portrait)
        large = max(2 * side, 256)  # the rig draws small faces poorly
        self.rig = RigRender(self.portrait, (large, large))
        self._reference = next(networks.video.encode([resized(self.portrait.image, side)]))[0]

    def __call__(
        self, motions: Iterable[Motion], start: int = 0, work: Path | None = None, job: str = "",
        progress: Progress | None = None,
    ) -> Iterator[Frame]:  # fmt: skip
        """Frames from number ``start`` on, uint8 RGB ``[S, S, 3]``, sixteen at a time.

        Args:
            motions: of the whole video, at 25 fps.
            start: first frame.
            work: folder for finished frames and the state, where a job that broke off is gone on with; nothing is kept
                by default.
            job: what the frames depend on besides the drawing; those of another job are not gone on with.
            progress: not told of anything; clips come one by one.

        Raises:
            MagicTalkError: when memory does not suffice.
        """
        del progress
        kept = None if work is None else Frames(work, f"{job} {self._drawing}")
        yield from islice(self._frames(motions, kept, work), start, None)

    def _frames(self, motions: Iterable[Motion], kept: Frames | None, work: Path | None) -> Iterator[Frame]:
        drawing, video, side = self._drawing, self._networks.video, self._networks.side
        facts = video.facts(drawing.applied, drawing.alpha, drawing.anchor, side)
        carried, state = video.begin(self._reference), None if work is None else work / STATE
        if state is not None and state.is_file() and kept is not None and kept.read(0) is not None:
            carried = Carried.open(state, facts)
        frame = 0
        for rows in in_clips(motions):
            if frame < carried.frame and kept is not None:  # finished before the job broke off
                for t in range(frame, frame + len(rows)):
                    known = kept.read(t)
                    assert known is not None
                    yield known
                frame += len(rows)
                continue
            made, carried = self._clip(rows, carried)
            pictures = list(video.pictures(made))
            if kept is not None and state is not None:
                for t, picture in enumerate(pictures, frame):
                    kept.keep(t, picture)
                carried.save(state, facts)
            yield from pictures
            frame += len(rows)

    def _clip(self, rows: NDArray[np.float32], carried: Carried) -> tuple[Tensor, Carried]:
        drawing, video = self._drawing, self._networks.video
        beginning = None
        if drawing.init == "rig":
            drawn = (resized(self.rig.draw(row[:-6], row[-6:]), self._networks.side) for row in rows)
            beginning = torch.cat(list(video.encode(drawn)))
        tokens = self._networks.tokens(torch.from_numpy(rows))
        return video.clip(carried, self._reference, tokens, drawing.applied, drawing.alpha, beginning, drawing.anchor)


def in_clips(motions: Iterable[Motion]) -> Iterator[NDArray[np.float32]]:
    """Motion ``[n, 58]``, coefficients and head, sixteen frames at a time; the last ones may be fewer."""
    held = np.zeros((0, 0), np.float32)
    for motion in motions:
        rows = np.concatenate([motion.coefficients, motion.head], 1).astype(np.float32)
        held = np.concatenate([held, rows]) if len(held) else rows
        while len(held) >= FRAMES:
            yield held[:FRAMES]
            held = held[FRAMES:]
    if len(held):
        yield held
