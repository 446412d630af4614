"""What the systems that generate their frames share: a drive's motion, a tier's networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from magictalk.animation import animate
from magictalk.drive.speakers import Drive
from magictalk.portrait import Portrait
from magictalk.render.diffusion.clip_render import ClipNetworks
from magictalk.render.diffusion.render import Drawing, Init, Networks
from magictalk.speech import Speech


class GeneratedSystem:
    """Motion by a drive, frames by diffusion.

    Args:
        name: what it is asked for by.
        init: ``"noise"`` as in the papers, or ``"rig"``.
        drawing_of: how frames are drawn, from ``init`` and ``seed``.
        networks: by what.
        drive: whose motion.
    """

    def __init__(
        self, name: str, init: Init, drawing_of: Callable[..., Drawing], networks: Networks | ClipNetworks,
        drive: Drive = "variational",
    ) -> None:  # fmt: skip
        self.name, self._init, self._drawing_of, self._networks = name, init, drawing_of, networks
        self._drive: Drive = drive

    def __call__(self, portrait: Portrait, speech: Speech, seed: int = 0) -> Iterator[NDArray[np.uint8]]:
        """Frames at 25 fps, uint8 RGB ``[S, S, 3]`` of the networks' side."""
        drawing = self._drawing_of(init=self._init, seed=seed)
        made = animate(portrait, speech, drive=self._drive, drawing=drawing, networks=self._networks, seed=seed)
        return made.frames()
