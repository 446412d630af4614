"""MagicTalk's EmoDiff, rendered by the rig; without its lip refinement; and as a control, hearing something else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from magictalk import weights
from magictalk.animation import animate
from magictalk.portrait import Portrait
from magictalk.speech import RATE, Speech


class EmoDiffSystem:
    """Face and head by EmoDiff, lips by the refinement, the portrait's own pixels warped.

    Args:
        name: what it is asked for by.
        drive: ``"emodiff-unrefined"`` leaves EmoDiff's own lips.
        shuffled: the face follows the sound of half the speech later, so that nothing it does fits what is heard.

    Raises:
        WeightsError: when the drive's weights are missing.
    """

    def __init__(
        self, name: str, drive: Literal["emodiff", "emodiff-unrefined"] = "emodiff", shuffled: bool = False
    ) -> None:
        self.name, self._drive, self._shuffled = name, drive, shuffled
        for network in ("emodiff", "lips") if drive == "emodiff" else ("emodiff",):
            weights.find(network)

    def __call__(self, portrait: Portrait, speech: Speech, seed: int = 0) -> Iterator[NDArray[np.uint8]]:
        """Frames at 25 fps, uint8 RGB ``[H, W, 3]``, of the portrait's size."""
        heard = other_moments(speech) if self._shuffled else speech
        return animate(portrait, heard, drive=self._drive, seed=seed).frames()


def other_moments(speech: Speech) -> Speech:
    """The same voice at other moments: the sound from its middle on, then its first half; as long as the speech."""
    samples = speech.samples()
    return Speech.from_array(np.roll(samples, len(samples) // 2), RATE)
