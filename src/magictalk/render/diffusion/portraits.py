"""PortraitTalk's render: one or several portraits, a prompt and motion to frames (section III)."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from magictalk.errors import MagicTalkWarning, OptionError
from magictalk.motion import Motion
from magictalk.portrait import Portrait
from magictalk.render.diffusion.denoising import CONDITIONS, Progress, Wanted
from magictalk.render.diffusion.identity import Blend, between, embedding_of, likeness, people
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

    Args:
        portrait: who; its picture stands before the first frame.
        drawing: how.
        networks: by what; AnimateNet looks at the frame before.

    Raises:
        OptionError, PortraitError, StyleError: as :class:`DiffusionRender`; or a reference has no face.
    """

    def __init__(self, portrait: Portrait, drawing: PortraitDrawing, networks: Networks) -> None:
        self._references = [Portrait.open(path) for path in drawing.references]
        self._blend, self._anchor = drawing.blend, drawing.anchor
        self._other = torch.zeros(0)
        super().__init__(portrait, drawing, networks)

    def _who(self) -> Tensor:
        if self._drawing.sampling.weights.get(IDENTITY, 1.0) == 0:
            return torch.zeros(1, self._networks.diffusion.reference.config["identity_width"])
        embeddings = [embedding_of(each, self._networks.embed) for each in (self.portrait, *self._references)]
        own, self._other = people(embeddings, self._networks.same)
        if self._blend and not len(self._other):
            least = min(likeness(e, embeddings[0]) for e in embeddings[1:])
            warnings.warn(
                f"all pictures look like one person (likeness {least:.2f} or more, expected less than "
                f"{self._networks.same:.2f}); all but the first are taken for the other one",
                MagicTalkWarning,
                stacklevel=2,
            )
            own, self._other = torch.stack(embeddings[:1]), torch.stack(embeddings[1:])
        if len(self._other) and not self._blend:
            least = min(likeness(e, embeddings[0]) for e in embeddings)
            warnings.warn(
                f"the pictures do not look like one person (likeness {least:.2f}, expected {self._networks.same:.2f}); "
                "what is drawn is between them; say how far with a blend",
                MagicTalkWarning,
                stacklevel=2,
            )
            return torch.stack(embeddings)
        return own

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
        side = self._networks.side
        shown = resized(self.portrait.image, side)
        mesh = self.portrait.landmarks * np.float32(side / self.portrait.image.shape[0])
        wanted = Wanted(
            0, lambda a, b: blend_tokens(self._tokens, self.prompts.shares(a, b)), self._empty, self._face,
            _nothing, self._contour,
        )  # fmt: skip
        draw = FrameByFrame(self._networks.diffusion, wanted, self.sampling(), shown, mesh, self._anchor)
        kept = None if work is None else Frames(work, f"{job} {self._drawing}")
        yield from islice(draw(self.steps(motions), kept), start, None)

    def steps(self, motions: Iterable[Motion]) -> Iterator[Step]:
        """What each frame of that motion shall show."""
        from_rig = self._drawing.init == "rig"
        scale = np.float32(self._networks.side / self.rig.frame_size[0])
        unit = np.float32(self.portrait.pose.scale_px * self._networks.side / self.portrait.image.shape[0])
        frame = 0
        for motion in motions:
            for coefficients, head in zip(motion.coefficients, motion.head, strict=True):
                posed = self.rig.pose(coefficients, head)
                flat = (posed.vertices[:478] + np.float32(0.5)) * scale - np.float32(0.5)
                mesh = np.concatenate([flat, -unit * posed.depth[:478, None]], 1)  # z grows away from the camera
                share = self._blend.share(frame) if self._blend else 0.0
                face = between(self._face, self._other, share) if share else self._face
                beginning = resized(self.rig.draw(coefficients, head), self._networks.side) if from_rig else None
                yield Step(mesh, face, beginning)
                frame += 1


def _nothing(first: int, last: int) -> Tensor:
    raise AssertionError("each frame brings its own landmarks")
