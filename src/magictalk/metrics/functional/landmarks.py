"""Landmark distances: how far a generated face's points are from the real ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

IBUG_68 = (
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,  # jaw
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,  # brows
    168, 197, 5, 4, 75, 97, 2, 326, 305,  # nose
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyes
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,  # outer lips
    78, 82, 13, 312, 308, 317, 14, 87,  # inner lips
)  # fmt: skip
"""MediaPipe's mesh points nearest to the 68 points of iBUG's annotation, in its order."""


def landmark_distance(generated: ArrayLike, reference: ArrayLike, mouth: bool = False) -> float:
    """LMD as ER-NeRF's ``LMDMeter`` has it: mean L2 distance in pixels, each frame's mean point subtracted.

    Args:
        generated: meshes ``[T, 478, 2 or 3]`` in pixels.
        reference: the real ones, same shape.
        mouth: M-LMD over points 48 to 67 of the 68 instead of F-LMD over all.
    """
    chosen = list(IBUG_68[48:] if mouth else IBUG_68)
    a, b = (np.asarray(points, np.float64)[:, chosen, :2] for points in (generated, reference))
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    return float(np.linalg.norm(a - b, axis=-1).mean())
