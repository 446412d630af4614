"""PortraitTalk (Surrey): motion by the variational generator, frames one after another by latent diffusion (III)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from magictalk.render.diffusion.denoising import Sampling
from magictalk.render.diffusion.identity import Blend
from magictalk.render.diffusion.portraits import PortraitDrawing
from magictalk.render.diffusion.render import Init
from magictalk.render.diffusion.text import Prompts
from magictalk.systems.generated import GeneratedSystem

STRENGTH = 0.3
"""Share of the denoising that warped frames go through."""
STEPS = 15
"""Of the embedded tier's denoising; more change little."""

ANCHOR = 0.5
"""Share of the portrait in what a frame sees as the one before it."""


def drawing_of(
    prompt: str | None = None,
    *,
    portraits: Sequence[Path] = (),
    blend: str | None = None,
    anchor: float = ANCHOR,
    init: Init = "rig",
    strength: float = STRENGTH,
    text_weight: float = 1.0,
    identity_weight: float = 1.0,
    steps: int = STEPS,
    weights: Mapping[str, float] | None = None,
    **sampling: Any,
) -> PortraitDrawing:
    """How the system draws, from what a user says.

    Args:
        prompt, init: as in :class:`PortraitDrawing`.
        portraits: further pictures of the person, or with ``blend`` of a second one.
        blend: how much of the second person there is: ``"0.3"``, or over time ``"0s 0; 4s 1"``.
        anchor: how much of the portrait each frame sees beside the frame before, 0 to 1; 0 as in the paper.
        strength: how much noise covers the rig's frames, 0 to 1.
        text_weight, identity_weight: how much the prompt and the faces count, 0 to 4.
        weights: how much others of the conditions count: landmarks, contour, previous.
        steps: of the denoising; the full tier wants 25.
        sampling: of :class:`Sampling`: ``guidance``, ``seed``.

    Raises:
        OptionError: when a value is out of its range, or a blend has one picture only.
        StyleError: when the prompt is empty, or its times are out of order.
    """
    if prompt is not None:
        Prompts.parse(prompt)
    all_weights = {"text": text_weight, "identity": identity_weight, **(weights or {})}
    return PortraitDrawing(
        prompt,
        init,
        Sampling(steps=steps, frames=1, overlap=0, strength=strength, weights=all_weights, **sampling),
        references=tuple(portraits),
        blend=None if blend is None else Blend.parse(blend),
        anchor=anchor,
    )


class PortraitTalkSystem(GeneratedSystem):
    """Motion by the variational generator, frames by the embedded tier's IdentityNet and AnimateNet.

    Args:
        name: what it is asked for by.
        init: ``"noise"`` as in the paper, or ``"rig"``.

    Raises:
        MissingDependencyError: when dlib or the sentence-embedding model is not installed.
        WeightsError: when weights are missing.
    """

    def __init__(self, name: str, init: Init) -> None:
        from magictalk.render.diffusion import tiers

        super().__init__(name, init, drawing_of, tiers.nano_portrait())
