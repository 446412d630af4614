"""MCDM: motion by the motion-prior diffusion (3.3), frames clip by clip by latent diffusion (3.1, 3.2, 3.4)."""

from __future__ import annotations

from typing import Any

from magictalk.animation import clip_networks
from magictalk.render.diffusion.clip_by_clip import FRAMES
from magictalk.render.diffusion.clip_render import ClipDrawing
from magictalk.render.diffusion.denoising import Sampling
from magictalk.render.diffusion.memory import ALPHA
from magictalk.render.diffusion.render import Init
from magictalk.systems.generated import GeneratedSystem

STRENGTH = 0.2
"""Share of the denoising that warped frames go through."""
STEPS = 15
"""Of the embedded tier's denoising; more change little."""

ANCHOR = 0.5
"""Share of the portrait in the archive."""


def drawing_of(
    *, init: Init = "rig", strength: float = STRENGTH, alpha: float = ALPHA, anchor: float = ANCHOR,
    steps: int = STEPS, guidance: float = 1.0, seed: int = 0, **others: Any,
) -> ClipDrawing:  # fmt: skip
    """How the system draws, from what a user says.

    Args:
        init: as in :class:`ClipDrawing`.
        strength: how much noise covers the rig's frames, 0 to 1.
        alpha: how much of what is remembered is kept from frame to frame, 0 to 1.
        anchor: how much of the portrait is mixed into the archive, 0 to 1; 0 as in the paper.
        steps: of the denoising.
        guidance: how strictly the motion is followed; 1 is as it was learnt, and takes half the time of others.
        seed: of the noise.
        others: of :class:`ClipDrawing`.

    Raises:
        OptionError: when a value is out of its range.
    """
    sampling = Sampling(
        steps=steps, guidance=guidance, frames=FRAMES, overlap=0, strength=strength, seed=seed, shared=1.0
    )
    return ClipDrawing(init=init, sampling=sampling, alpha=alpha, anchor=anchor, **others)


class McdmSystem(GeneratedSystem):
    """Motion by the motion prior, frames clip by clip by the embedded tier's network.

    Args:
        name: what it is asked for by.
        init: ``"noise"`` as in the paper, or ``"rig"``.

    Raises:
        WeightsError: when weights are missing.
    """

    def __init__(self, name: str, init: Init) -> None:
        super().__init__(name, init, drawing_of, clip_networks(), drive="mcdm")
