"""Eyes that open and shut: the aperture of the lids, and the blinks in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from magictalk.metrics.functional.landmarks import IBUG_68

LONGEST_BLINK_S = 0.5
"""Eyes shut for longer are not blinking."""


def aperture(landmarks: ArrayLike) -> NDArray[np.float64]:
    """Eye aspect ratio ``[T]`` of meshes ``[T, 478, 2 or 3]`` in pixels, mean of both eyes.

    Lid distance over eye width, about 0.3 open and 0.1 or less shut (Soukupová and Čech 2016, eq. 1).
    """
    points = np.asarray(landmarks, np.float64)[..., :2]
    ratios = []
    for eye in (IBUG_68[36:42], IBUG_68[42:48]):
        p = points[:, list(eye)]

        def apart(i: int, j: int, p: NDArray[np.float64] = p) -> NDArray[np.float64]:
            return np.linalg.norm(p[:, i] - p[:, j], axis=-1)

        ratios.append((apart(1, 5) + apart(2, 4)) / (2 * apart(0, 3)))
    return np.mean(ratios, 0)


@dataclass(frozen=True)
class Blink:
    """One blink: when the lids pass half-way down, and how long until they are half-way up again."""

    start_s: float
    duration_s: float


def blinks(openness: ArrayLike, fps: float = 25.0) -> list[Blink]:
    """Blinks in a series of openness ``[T]``, any unit in which 0 is shut: :func:`aperture`, or 1 - ``eyeBlink``.

    A blink is a dip under half of the series' median that comes back within ``LONGEST_BLINK_S``. Times are of
    the crossings, interpolated between frames. Dips that begin before or end after the series, or that touch a
    frame without a face (NaN), are not counted.
    """
    x = np.asarray(openness, np.float64)
    if not np.isfinite(x).any():
        return []
    half = 0.5 * np.nanmedian(x)
    edges = np.diff((x < half).astype(np.int8))
    found = []
    for down in np.flatnonzero(edges == 1):
        ups = np.flatnonzero(edges[down:] == -1)
        if len(ups) == 0:
            break
        up = down + ups[0]
        if np.isfinite(x[down : up + 2]).all():
            start = down + (x[down] - half) / (x[down] - x[down + 1])
            end = up + (half - x[up]) / (x[up + 1] - x[up])
            if (end - start) / fps <= LONGEST_BLINK_S:
                found.append(Blink(start / fps, (end - start) / fps))
    return found
