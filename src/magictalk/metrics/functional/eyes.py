"""Eyes that open and shut: the aperture of the lids, and the blinks in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.signal import find_peaks

from magictalk.metrics.functional.landmarks import IBUG_68

LONGEST_BLINK_S = 0.5
"""Eyes shut for longer are not blinking."""
SHALLOWEST_BLINK = 0.35
"""Share of the eye's usual opening that a blink takes away at least; what takes less is a squint."""


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
    """One blink: when the lids pass half of their way down, and how long until they are half-way up again."""

    start_s: float
    duration_s: float


def blinks(openness: ArrayLike, fps: float = 25.0) -> list[Blink]:
    """Blinks in a series of openness ``[T]``, any unit in which 0 is shut: :func:`aperture`, or 1 - ``eyeBlink``.

    A blink is a dip by ``SHALLOWEST_BLINK`` of the series' median or more, measured from the less open side within
    0.6 s of it, that lasts no longer than ``LONGEST_BLINK_S`` at half of its own depth. So the duration does not
    depend on how far down lids are seen to come, which differs between cameras, faces and renders. Times are
    interpolated between frames. Dips that begin before or end after the series, or that touch a frame without a
    face (NaN), are not counted.
    """
    x = np.asarray(openness, np.float64)
    known = np.isfinite(x)
    if not known.any():
        return []
    frames = np.arange(len(x))
    whole = np.interp(frames, frames[known], x[known])
    reach = 2 * round(1.2 * LONGEST_BLINK_S * fps) + 1
    _, found = find_peaks(-whole, prominence=SHALLOWEST_BLINK * np.median(whole), wlen=reach, width=0, rel_height=0.5)
    return [
        Blink(start / fps, (end - start) / fps)
        for start, end in zip(found["left_ips"], found["right_ips"], strict=True)
        if (end - start) / fps <= LONGEST_BLINK_S and known[int(start) : int(np.ceil(end)) + 1].all()
    ]
