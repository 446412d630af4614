"""Blinks: how often, and for how long."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from magictalk.metrics.functional.eyes import blinks
from magictalk.metrics.mean import Mean


class BlinkRate(Mean):
    """Blinks a minute, over the frames in which a face is seen. People blink 10 to 20 times while they talk."""

    figure = "blinks"
    unit = "/min"
    higher_is_better = None
    minutes: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_state("minutes", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, openness: ArrayLike, fps: float = 25.0) -> None:
        """Take a clip's openness of the eyes ``[T]``; see :func:`magictalk.metrics.functional.eyes.blinks`."""
        self.total += len(blinks(openness, fps))
        self.minutes += float(np.isfinite(np.asarray(openness, np.float64)).sum()) / fps / 60

    def compute(self) -> Tensor:
        """Blinks a minute; NaN where no frame came."""
        return self.total / self.minutes


class BlinkDuration(Mean):
    """Mean duration of blinks at half of their depth. A blink takes people 0.1 to 0.3 s."""

    figure = "blink length"
    unit = "s"
    higher_is_better = None

    def update(self, openness: ArrayLike, fps: float = 25.0) -> None:
        """Take a clip's openness of the eyes ``[T]``; see :func:`magictalk.metrics.functional.eyes.blinks`."""
        self.add([blink.duration_s for blink in blinks(openness, fps)])
