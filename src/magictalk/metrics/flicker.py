"""Temporal flicker."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from magictalk.metrics.functional.flicker import residual
from magictalk.metrics.mean import Mean


class Flicker(Mean):
    """Mean change from frame to frame that motion does not explain, in grey levels.

    A camera's noise counts too, and a frozen picture scores 0: compare with the real video's.
    """

    figure = "flicker"
    unit = "levels"
    higher_is_better = False

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self._last: NDArray[np.uint8] | None = None

    def update(self, frames: Iterable[NDArray[np.uint8]], first: bool = True) -> None:
        """Take consecutive frames ``[T, H, W, 3]`` of a clip; ``first=False``: they go on from the last update's."""
        last = None if first else self._last
        scores = []
        for frame in frames:
            if last is not None:
                scores.append(residual(last, frame))
            last = frame
        self.add(scores)
        self._last = last

    def reset(self) -> None:
        """Forget every score, and the frame that a further chunk would go on from."""
        super().reset()
        self._last = None
