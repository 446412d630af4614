"""PortraitTalk (Surrey): motion by the variational generator, frames one after another by latent diffusion (III)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from magictalk.animation import animate
from magictalk.portrait import Portrait
from magictalk.render.diffusion.denoising import Sampling
from magictalk.render.diffusion.identity import Blend
from magictalk.render.diffusion.portraits import PortraitDrawing
from magictalk.render.diffusion.text import Prompts
from magictalk.speech import Speech

STRENGTH = 0.3
"""Share of the denoising that warped frames go through."""
STEPS = 15
"""Of the embedded tier's denoising; more change little."""


def drawing_of(
    prompt: str | None = None,
    *,
    portraits: Sequence[Path] = (),
    blend: str | None = None,
    init: Literal["rig", "noise"] = "rig",
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
        Sampling(steps=steps, strength=strength, weights=all_weights, **sampling),
        references=tuple(portraits),
        blend=None if blend is None else Blend.parse(blend),
    )


class PortraitTalkSystem:
    """Motion by the variational generator, frames by the embedded tier's IdentityNet and AnimateNet.

    Args:
        name: what it is asked for by.
        init: ``"noise"`` as in the paper, or ``"rig"``.

    Raises:
        MissingDependencyError: when dlib or the sentence-embedding model is not installed.
        WeightsError: when weights are missing.
    """

    def __init__(self, name: str, init: Literal["rig", "noise"]) -> None:
        from magictalk.render.diffusion import tiers

        self.name, self._init = name, init
        self._networks = tiers.nano_portrait()

    def __call__(self, portrait: Portrait, speech: Speech, seed: int = 0) -> Iterator[NDArray[np.uint8]]:
        """Frames at 25 fps, uint8 RGB ``[128, 128, 3]``."""
        drawing = drawing_of(init=self._init, seed=seed)
        made = animate(portrait, speech, drive="variational", drawing=drawing, networks=self._networks, seed=seed)
        return made.frames()
