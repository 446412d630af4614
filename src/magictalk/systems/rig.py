"""A generating system's motion on the rig: what its diffusion has to be better than."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from magictalk.animation import animate
from magictalk.drive.speakers import Drive, speaker
from magictalk.portrait import Portrait
from magictalk.speech import Speech


class RigSystem:
    """Motion by a drive, the portrait's own pixels warped.

    Args:
        name: what it is asked for by.
        drive: whose motion.

    Raises:
        WeightsError: when the drive's weights are missing.
    """

    def __init__(self, name: str, drive: Drive) -> None:
        self.name = name
        self._drive: Drive = drive
        speaker(drive)  # weights that are missing are told before anything is measured

    def __call__(self, portrait: Portrait, speech: Speech, seed: int = 0) -> Iterator[NDArray[np.uint8]]:
        """Frames at 25 fps, uint8 RGB ``[H, W, 3]``, of the portrait's size."""
        return animate(portrait, speech, drive=self._drive, seed=seed).frames()
