"""MAGIC-Talk (Surrey): motion by the variational generator (3.2), frames by latent diffusion (3.1 to 3.4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from magictalk.render.diffusion.denoising import Sampling
from magictalk.render.diffusion.render import Drawing, Init
from magictalk.render.diffusion.text import Prompts
from magictalk.systems.generated import GeneratedSystem

STRENGTH = 0.3
"""Share of the denoising that warped frames go through."""
STEPS = 15
"""Of the embedded tier's denoising; more change little."""

SHARED = 1.0
"""Share of their noise that frames have in common; the embedded tier's motion blocks were trained with any."""


def drawing_of(
    prompt: str | None = None,
    *,
    init: Init = "rig",
    strength: float = STRENGTH,
    contour: Path | None = None,
    text_weight: float = 1.0,
    identity_weight: float = 1.0,
    steps: int = STEPS,
    shared: float = SHARED,
    **sampling: Any,
) -> Drawing:
    """How the system draws, from what a user says.

    Args:
        prompt, init, contour: as in :class:`Drawing`.
        strength: how much noise covers the rig's frames, 0 to 1.
        text_weight, identity_weight: how much the prompt and the face count, 0 to 4.
        steps: of the denoising; the full tier wants 25.
        shared: how much of their noise frames have in common, 0 to 1; 0 is the full tier's, whose motion blocks know
            noise of each frame's own only.
        sampling: of :class:`Sampling`: ``guidance``, ``seed``, ``frames``, ``overlap``, ``batch``.

    Raises:
        OptionError: when a value is out of its range.
        StyleError: when the prompt is empty, or its times are out of order.
    """
    if prompt is not None:
        Prompts.parse(prompt)
    weights = {"text": text_weight, "identity": identity_weight}
    drawn = Sampling(steps=steps, strength=strength, shared=shared, weights=weights, **sampling)
    return Drawing(prompt, init, drawn, contour)


class MagicTalkSystem(GeneratedSystem):
    """Motion by the variational generator, frames by the embedded tier's diffusion.

    Args:
        name: what it is asked for by.
        init: ``"noise"`` as in the paper, or ``"rig"``.

    Raises:
        MissingDependencyError: when dlib or the sentence-embedding model is not installed.
        WeightsError: when weights are missing.
    """

    def __init__(self, name: str, init: Init) -> None:
        from magictalk.render.diffusion import tiers

        super().__init__(name, init, drawing_of, tiers.nano())
