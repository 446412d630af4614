"""Audio2BS alone: lips from the sound, the rest from the idle drive, rendered by the rig."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from magictalk.animation import animate
from magictalk.portrait import Portrait
from magictalk.speech import Speech


class Audio2BSSystem:
    """Lips from the sound, blinks and head motion from the idle drive, the portrait's own pixels warped."""

    name = "audio2bs"

    def __call__(self, portrait: Portrait, speech: Speech, seed: int = 0) -> Iterator[NDArray[np.uint8]]:
        """Frames at 25 fps, uint8 RGB ``[H, W, 3]``, of the portrait's size."""
        return animate(portrait, speech, drive="audio2bs", seed=seed).frames()
