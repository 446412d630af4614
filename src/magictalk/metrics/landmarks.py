"""Landmark distances: M-LMD and F-LMD."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from magictalk.metrics.functional.landmarks import landmark_distance
from magictalk.metrics.mean import Mean


class LandmarkDistance(Mean):
    """Mean distance of 68 landmarks, or of the mouth's 20, from the real ones; frames without a face are left out.

    Args:
        mouth: M-LMD rather than F-LMD.
    """

    unit = "px"
    higher_is_better = False

    def __init__(self, mouth: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.mouth = mouth
        self.figure = "M-LMD" if mouth else "F-LMD"

    def update(self, generated: ArrayLike, reference: ArrayLike) -> None:
        """Take meshes ``[T, 478, 2 or 3]`` in pixels, NaN where there is no face, and the real ones."""
        pairs = zip(np.asarray(generated), np.asarray(reference), strict=True)
        self.add([landmark_distance(a[None], b[None], self.mouth) for a, b in pairs])
