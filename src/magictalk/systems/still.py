"""The baseline that every system must beat: the portrait, unmoved."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from magictalk.portrait import Portrait
from magictalk.speech import Speech


class StillSystem:
    """The portrait's picture, repeated for as long as the speech lasts."""

    name = "still"

    def __call__(self, portrait: Portrait, speech: Speech, seed: int = 0) -> Iterator[NDArray[np.uint8]]:
        """Frames at 25 fps, uint8 RGB ``[H, W, 3]``, of the portrait's size; the seed changes nothing."""
        samples = frames = 0
        for chunk in speech.chunks():
            samples += len(chunk)
            due = speech.frame_count(samples) - frames
            frames += due
            for _ in range(due):
                yield portrait.image
