"""ADFD: landmarks in place, moving alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from magictalk.metrics.functional.dynamics import adfd
from magictalk.metrics.functional.landmarks import IBUG_68
from magictalk.metrics.mean import Mean


class ADFD(Mean):
    """Audio-driven facial dynamics (PortraitTalk, eq. 4) of 68 landmarks, mean over clips; 1 is best.

    Args:
        printed: the formula as printed, which is ill-defined, rather than as meant; see
            :func:`magictalk.metrics.functional.dynamics.adfd`.
        w1: weight of the place.
        w2: weight of the movement.
    """

    higher_is_better = True

    def __init__(self, printed: bool = False, w1: float = 1.0, w2: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.printed, self.w1, self.w2 = printed, w1, w2
        self.figure = "ADFD (as printed)" if printed else "ADFD"

    def update(self, generated: ArrayLike, reference: ArrayLike, diagonal_px: float) -> None:
        """Take a whole clip: meshes ``[T, 478, 2 or 3]`` in pixels, the real ones, and the frame's diagonal.

        Frames without a face (NaN) are left out; the clip is, where fewer than two remain.
        """
        a, b = (np.asarray(points, np.float64)[:, list(IBUG_68), :2] for points in (generated, reference))
        seen = np.isfinite(a).all((1, 2)) & np.isfinite(b).all((1, 2))
        if seen.sum() >= 2:
            self.add(adfd(a[seen], b[seen], diagonal_px, self.w1, self.w2, self.printed))
