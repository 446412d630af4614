"""A video frame by frame, each out of noise and knowing the one before (PortraitTalk, section III-B).

The frame before is looked at twice: as it is (temporal attention), and as the outline of its head (identity attention,
"head placement guidance"). Before the first frame there is the portrait. A frame's cost and memory do not depend on how
many came before, and it can be shown as soon as it is there.

What a small network gets wrong it sees again in the frame before, and adds to it each time. An anchor ends this: the
portrait, mixed into what is shown as the frame before (between two people, what is between their portraits).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from magictalk.face.contour import contour
from magictalk.face.drawing import draw_landmarks
from magictalk.face.person import PersonSegmenter
from magictalk.render.diffusion.animate import as_control, edges_as_control
from magictalk.render.diffusion.denoising import Sampling, VideoDiffusion, Wanted, noise

Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class Step:
    """What a frame shall show.

    Attributes:
        mesh: of the face, ``[478, 3]`` px of the frame; it is drawn as landmarks.
        face: embeddings ``[R, E]`` of who it is.
        beginning: a frame of another render, which is laid under noise; pure noise where None.
        anchor: what is mixed into the frame before; the portrait where None.
    """

    mesh: NDArray[np.float32]
    face: Tensor
    beginning: Frame | None = None
    anchor: Frame | None = None


class FrameByFrame:
    """Draws frame after frame.

    Args:
        diffusion: autoencoder, IdentityNet, AnimateNet.
        wanted: of the whole video; only its text is read, as everything else is each frame's own.
        sampling: steps, guidance, strength, seed, weights.
        portrait: what is seen before the first frame, ``[S, S, 3]``.
        mesh: of the portrait, ``[478, 3]`` px.
        anchor: share of the portrait in what temporal attention is shown as the frame before, 0 to 1; 0 is the paper's.
    """

    def __init__(
        self, diffusion: VideoDiffusion, wanted: Wanted, sampling: Sampling, portrait: Frame, mesh: NDArray[np.float32],
        anchor: float = 0.0,
    ) -> None:  # fmt: skip
        self._diffusion, self._wanted, self._sampling = diffusion, wanted, sampling
        self._portrait, self._mesh, self._anchor = portrait, mesh, anchor

    def __call__(self, steps: Iterator[Step], kept: Frames | None = None) -> Iterator[Frame]:
        """Frames, uint8 RGB ``[S, S, 3]``, as many as steps.

        Args:
            steps: what each frame shall show.
            kept: frames of a job that broke off; those it has are given as they are, the others are added to it.
        """
        before, mesh = self._portrait, self._mesh
        with PersonSegmenter() as person:
            for t, step in enumerate(steps):
                known = None if kept is None else kept.read(t)
                if known is None:
                    outline = contour(before, mesh, coarse=True, person=person(before))
                    frame = self._draw(t, step, before, outline)
                    if kept is not None:
                        kept.keep(t, frame)
                else:
                    frame = known
                yield frame
                before, mesh = frame, step.mesh

    @torch.inference_mode()
    def _draw(self, t: int, step: Step, before: Frame, outline: NDArray[np.bool_]) -> Frame:
        diffusion, sampling = self._diffusion, self._sampling
        landmarks = as_control(draw_landmarks(step.mesh, before.shape[0]))[:, None]
        anchor = self._portrait if step.anchor is None else step.anchor
        wanted = replace(
            self._wanted,
            face=step.face,
            landmarks=lambda first, last: landmarks,
            contour=edges_as_control(outline),
            previous=torch.lerp(as_control(before), as_control(anchor), self._anchor),
        )
        # the same for all frames: what moves is asked for
        x = next(noise(1, diffusion.latent_shape(before.shape[0]), sampling.seed))
        times = diffusion.times(sampling)
        if step.beginning is not None:
            clean = torch.cat(list(diffusion.encode([step.beginning])))
            x = diffusion.scheduler.add_noise(clean, x, times[:1]) if len(times) else clean
        z = x[:, :, None].to(diffusion.device)  # [1, C, 1, h, w]
        for time in times:
            z = diffusion.step(z, [t], wanted, sampling, time)
        return next(diffusion.pictures(z[:, :, 0]))


class Frames:
    """Finished frames of a job on the disk, so that it can be gone on with.

    Args:
        folder: where they lie; it is made.
        job: what they depend on; frames of another job in the folder are removed.
    """

    def __init__(self, folder: Path, job: str) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        facts = folder / "job.txt"
        if not facts.is_file() or facts.read_text("utf-8") != job:
            for path in folder.glob("frame-*"):
                path.unlink()
            facts.write_text(job, "utf-8")

    def read(self, t: int) -> Frame | None:
        """Frame ``t``, or None where it is not there."""
        path = self._path(t)
        return None if not path.is_file() else np.load(path)

    def keep(self, t: int, frame: Frame) -> None:
        """Write a frame, whole or not at all."""
        part = self._folder / "part.npy"
        np.save(part, frame)
        part.replace(self._path(t))

    def _path(self, t: int) -> Path:
        return self._folder / f"frame-{t:07d}.npy"
