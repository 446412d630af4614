"""Lip sync from features of picture and sound: the curve of distances over shifts, and what is read from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from magictalk.errors import OptionError

SHIFTS = 15
"""Frames that the sound is shifted by at most, each way."""


@dataclass(frozen=True)
class SyncFigures:
    """What the sync judges report of a video.

    Attributes:
        offset_s: the mouth at ``t`` matches the sound at ``t + offset_s``.
        distance: LSE-D, the mean distance at the best shift; smaller is better.
        confidence: LSE-C, the median over shifts less ``distance``; larger is better.
    """

    offset_s: float
    distance: float
    confidence: float


def distances_by_shift(picture: ArrayLike, sound: ArrayLike, shifts: int = SHIFTS) -> NDArray[np.float64]:
    """Mean Euclidean distance ``[2 shifts + 1]`` between picture features and sound features of ``k`` frames later.

    Entry ``shifts + k`` belongs to ``k``. Beyond its ends the sound has zeros for features, as in
    ``syncnet_python``, whose figures these are meant to be comparable with.

    Args:
        picture: features ``[T, D]`` a frame.
        sound: features ``[T, D]``.
        shifts: the most frames to shift by.

    Raises:
        OptionError: the shapes differ, or there is no frame.
    """
    a, b = np.asarray(picture, np.float64), np.asarray(sound, np.float64)
    if a.shape != b.shape or a.ndim != 2 or len(a) == 0:
        raise OptionError(f"features of shapes {a.shape} and {b.shape}; expected two alike [T, D] with T of at least 1")
    padded = np.pad(b, ((shifts, shifts), (0, 0)))
    return np.array([np.linalg.norm(a - padded[k : k + len(a)], axis=1).mean() for k in range(2 * shifts + 1)])


def read_curve(distances: ArrayLike, fps: float = 25.0) -> SyncFigures:
    """The figures in a curve of :func:`distances_by_shift` (Chung and Zisserman 2016; Prajwal et al. 2020)."""
    curve = np.asarray(distances, np.float64)
    best = int(curve.argmin())
    return SyncFigures(
        (best - len(curve) // 2) / fps, float(curve[best]), float(np.median(curve) - curve[best])
    )  # fmt: skip
