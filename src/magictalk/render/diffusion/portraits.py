"""PortraitTalk's render: one or several portraits, a prompt and motion to frames (section III)."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, tee
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from magictalk.errors import MagicTalkWarning, OptionError
from magictalk.motion import Motion
from magictalk.portrait import Portrait
from magictalk.render.diffusion.denoising import CONDITIONS, Progress, Wanted
from magictalk.render.diffusion.identity import Blend, between, embedding_of, in_place_of, likeness, people
from magictalk.render.diffusion.reference import IDENTITY
from magictalk.render.diffusion.render import DiffusionRender, Drawing, Frame, Networks, resized
from magictalk.render.diffusion.sequence import FrameByFrame, Frames, Step
from magictalk.render.diffusion.text import blend_tokens


@dataclass(frozen=True)
class PortraitDrawing(Drawing):
    """How frames are drawn, by several pictures.

    Attributes:
        references: further pictures, of the same person; or of a second one, with ``blend``.
        blend: how much of the second person there is, over time.
        anchor: how much of the portrait each frame sees beside the frame before, 0 to 1; 0 is the paper's.

    Raises:
        OptionError: when the anchor is no share, there is a blend and one picture only, or all weights are 0.
    """

    references: tuple[Path, ...] = ()
    blend: Blend | None = None
    anchor: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.anchor <= 1:
            raise OptionError(f"anchor is {self.anchor:g}; expected 0 to 1")
        if self.blend and not self.references:
            raise OptionError("blend mixes two people, and there is one picture; give one of the second person too")
        weights = self.sampling.weights
        if all(weights.get(name, 1.0) == 0 for name in CONDITIONS):
            raise OptionError(
                f"all weights are 0, so nothing says what to draw; let one of {', '.join(CONDITIONS)} count"
            )


class PortraitRender(DiffusionRender):
    """Motion to square frames of a head, one after another, each by IdentityNet and AnimateNet.

    Between two people everything a frame is told lies between what it is told of either: who, the prompt that describes
    the portrait, the mesh, the rig's frame, the anchor. The other one's picture is first laid into this one's place.

    Args:
        portrait: who; its picture stands before the first frame.
        drawing: how.
        networks: by what; AnimateNet looks at the frame before.

    Raises:
        OptionError, PortraitError, StyleError: as :class:`DiffusionRender`; or a reference has no face.
    """

    _drawing: PortraitDrawing

    def __init__(self, portrait: Portrait, drawing: PortraitDrawing, networks: Networks) -> None:
        self._references = [Portrait.open(path) for path in drawing.references]
        self._blend, self._anchor = drawing.blend, drawing.anchor
        self._other: PortraitRender | None = None
        super().__init__(portrait, drawing, networks)

    def _who(self) -> Tensor:
        if self._drawing.sampling.weights.get(IDENTITY, 1.0) == 0:
            own, others = [0], list(range(1, 1 + len(self._references)))
            embeddings = [torch.zeros(self._networks.diffusion.reference.config["identity_width"])]
        else:
            embeddings = [embedding_of(each, self._networks.embed) for each in (self.portrait, *self._references)]
            own, others = self._people(embeddings)
        if self._blend:
            paths = tuple(self._drawing.references[i - 1] for i in others)
            self._other = _Placed(
                in_place_of(self.portrait, self._references[others[0] - 1]),
                replace(self._drawing, references=paths[1:], blend=None),
                self._networks,
            )
        return torch.stack([embeddings[i] for i in own])

    def _people(self, embeddings: Sequence[Tensor]) -> tuple[list[int], list[int]]:
        """Which pictures are of the person, and which are of the other one of a blend."""
        own, others = people(embeddings, self._networks.same)
        least = min(likeness(e, embeddings[0]) for e in embeddings[1:] or embeddings)
        if self._blend and not others:
            warnings.warn(
                f"all pictures look like one person (likeness {least:.2f} or more, expected less than "
                f"{self._networks.same:.2f}); all but the first are taken for the other one",
                MagicTalkWarning,
                stacklevel=2,
            )
            return [0], list(range(1, len(embeddings)))
        if others and not self._blend:
            warnings.warn(
                f"the pictures do not look like one person (likeness {least:.2f}, expected {self._networks.same:.2f}); "
                "what is drawn is between them; say how far with a blend",
                MagicTalkWarning,
                stacklevel=2,
            )
            return [*own, *others], []
        return own, others

    def __call__(
        self, motions: Iterable[Motion], start: int = 0, work: Path | None = None, job: str = "",
        progress: Progress | None = None,
    ) -> Iterator[Frame]:  # fmt: skip
        """Frames from number ``start`` on, uint8 RGB ``[S, S, 3]``, each as soon as it is drawn.

        Args:
            motions: of the whole clip, at 25 fps.
            start: first frame.
            work: folder for finished frames, where a job that broke off is gone on with; nothing is kept by default.
            job: what the frames depend on besides the drawing; frames of another job are not gone on with.
            progress: not told of anything; frames come one by one.
        """
        del progress
        shown, mesh = self._shown, self._mesh
        if self._other is not None:
            share = self._share(0)
            shown, mesh = faded(shown, self._other._shown, share), faded(mesh, self._other._mesh, share)
        wanted = Wanted(0, self._text, self._empty, self._face, _nothing, self._contour)
        draw = FrameByFrame(self._networks.diffusion, wanted, self._drawing.applied, shown, mesh, self._anchor)
        kept = None if work is None else Frames(work, f"{job} {self._drawing}")
        yield from islice(draw(self.steps(motions), kept), start, None)

    def steps(self, motions: Iterable[Motion]) -> Iterator[Step]:
        """What each frame of that motion shall show."""
        if self._other is None:
            yield from self._alone(motions)
            return
        first, second = tee(motions)
        both = zip(self._alone(first), self._other._alone(second), strict=True)
        for frame, (own, other) in enumerate(both):
            share = self._share(frame)
            yield Step(
                faded(own.mesh, other.mesh, share),
                between(own.face, other.face, share),
                None if own.beginning is None or other.beginning is None
                else faded(own.beginning, other.beginning, share),
                faded(self._shown, self._other._shown, share),
            )  # fmt: skip

    def _alone(self, motions: Iterable[Motion]) -> Iterator[Step]:
        """The same of this person alone."""
        from_rig, side = self._drawing.init == "rig", self._networks.side
        scale = np.float32(side / self.rig.frame_size[0])
        unit = np.float32(self.portrait.pose.scale_px * side / self.portrait.image.shape[0])
        for motion in motions:
            for coefficients, head in zip(motion.coefficients, motion.head, strict=True):
                posed = self.rig.pose(coefficients, head)
                flat = (posed.vertices[:478] + np.float32(0.5)) * scale - np.float32(0.5)
                mesh = np.concatenate([flat, -unit * posed.depth[:478, None]], 1)  # z grows away from the camera
                yield Step(mesh, self._face, resized(self.rig.draw(coefficients, head), side) if from_rig else None)

    def _share(self, frame: int) -> float:
        """How much of the other person there is in a frame."""
        return self._blend.share(frame) if self._blend else 0.0

    def _text(self, first: int, last: int) -> Tensor:
        """Text of frames; where the portraits describe themselves, on the way to the other one's."""
        own = blend_tokens(self._tokens, self.prompts.shares(first, last))
        if self._other is None:
            return own
        shares = torch.tensor([self._share(frame) for frame in range(first, last)])[:, None, None]
        return torch.lerp(own, self._other._text(first, last), shares)


class _Placed(PortraitRender):
    """The other person of a blend, whose picture is framed already."""

    def _framed(self, portrait: Portrait) -> Portrait:
        return portrait


Numbers = TypeVar("Numbers", NDArray[np.uint8], NDArray[np.float32])


def faded(own: Numbers, other: Numbers, share: float) -> Numbers:
    """What lies between two pictures or meshes: the first at 0, the other at 1."""
    made = (1 - share) * own + share * other
    return made.round().astype(own.dtype) if own.dtype == np.uint8 else made.astype(own.dtype)


def _nothing(first: int, last: int) -> Tensor:
    raise AssertionError("each frame brings its own landmarks")
