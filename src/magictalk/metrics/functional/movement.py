"""How a face moves besides talking: speeds, the spectrum of head motion, and how unlike two takes of it are.

Trackers jitter: of a rendered head that really turns by 6 degrees a second they read 11, most of it above 4 Hz. Series
are therefore smoothed before they are differentiated, and the spectrum ends where the tracker's noise begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import welch
from scipy.spatial.transform import Rotation
from scipy.stats import wasserstein_distance

Array = NDArray[np.float64]

BAND_HZ = 0.2, 4.0
"""Of the spectrum; bins are as far apart as its lower end."""
WINDOW_S = 5.0
"""Length of a window of the spectrum; windows overlap by half."""
SHORTEST_S = 2.0
"""A stretch of seen faces that is shorter has no spectrum."""
FLOOR = 1e-2
"""Power, in (degrees/s)^2/Hz, below which a head counts as at rest."""


def runs(series: ArrayLike) -> Iterator[Array]:
    """The stretches ``[t, K]`` of a series ``[T, K]`` between frames that hold NaN."""
    x = np.asarray(series, np.float64)
    known = np.isfinite(x).all(1)
    for part in np.split(np.arange(len(x)), np.flatnonzero(np.diff(known)) + 1):
        if len(part) and known[part[0]]:
            yield x[part]


def speeds(series: ArrayLike, smooth_s: float = 0.0, fps: float = 25.0) -> Array:
    """How fast a series ``[T, K]`` changes: from frame to frame the mean of the K absolute slopes, units a second.

    Args:
        series: NaN where it is not known; slopes there are left out.
        smooth_s: standard deviation in seconds of the Gaussian that the series is smoothed with before.
        fps: frames a second.
    """
    slopes = [np.diff(_smooth(run, smooth_s * fps), axis=0) for run in runs(series)]
    return np.concatenate([np.zeros(0), *(np.abs(slope).mean(1) * fps for slope in slopes)])


def head_speeds(rotations: ArrayLike, smooth_s: float = 0.0, fps: float = 25.0) -> Array:
    """How fast a head turns from frame to frame, about whatever axis, ``[n]`` in degrees a second.

    Args:
        rotations: rotation vectors ``[T, 3]`` in radians, not far from 0; NaN where no face is seen.
        smooth_s: standard deviation in seconds of the Gaussian that they are smoothed with before.
        fps: frames a second.
    """
    turns = [turning(_smooth(run, smooth_s * fps), fps) for run in runs(rotations)]
    return np.concatenate([np.zeros(0), *(np.linalg.norm(turn, axis=1) for turn in turns)])


def turning(rotations: ArrayLike, fps: float = 25.0) -> Array:
    """Angular velocity ``[T - 1, 3]`` in degrees a second of rotation vectors ``[T, 3]`` in radians.

    Its axes are the camera's: pitch, yaw and roll of a head that faces it.
    """
    turned = Rotation.from_rotvec(np.asarray(rotations, np.float64))
    return np.asarray(np.rad2deg((turned[1:] * turned[:-1].inv()).as_rotvec()) * fps)


def _smooth(run: Array, frames: float) -> Array:
    return gaussian_filter1d(run, frames, axis=0, mode="nearest") if frames else run


def head_spectra(rotations: ArrayLike, fps: float = 25.0) -> Array:
    """Power of a head's turning in windows (Welch 1967), ``[windows, bins, 3]`` in (degrees/s)^2/Hz.

    Windows are of ``WINDOW_S``, under a Hann taper and less their mean; a stretch shorter than that is one window,
    which zeros make up for. Bins cover ``BAND_HZ``; the last axis is pitch, yaw and roll.

    Args:
        rotations: rotation vectors ``[T, 3]`` in radians; NaN where no face is seen.
        fps: frames a second.
    """
    length = round(WINDOW_S * fps)
    frequency = np.fft.rfftfreq(length, 1 / fps)
    inside = (frequency > BAND_HZ[0] - 1e-9) & (frequency < BAND_HZ[1] + 1e-9)
    windows = [np.zeros((0, int(inside.sum()), 3))]
    for run in runs(rotations):
        if len(run) < SHORTEST_S * fps:
            continue
        velocity = turning(run, fps)
        for start in range(0, max(1, len(velocity) - length + 1), length // 2):
            window = velocity[start : start + length]
            power = welch(window, fps, nperseg=len(window), nfft=length, axis=0)[1]
            windows.append(power[inside][None])
    return np.concatenate(windows)


def decibels_apart(a: ArrayLike, b: ArrayLike) -> float:
    """Root of the mean squared difference of two spectra of one shape, in dB; powers count as ``FLOOR`` at least."""
    levels = (10 * np.log10(np.maximum(np.asarray(power, np.float64), FLOOR)) for power in (a, b))
    return float(np.sqrt(np.mean(np.subtract(*levels) ** 2)))


def distribution_distance(a: ArrayLike, b: ArrayLike) -> float:
    """1-Wasserstein distance of samples ``a [N]`` to ``b [M]``, in parts of the mean of ``b``.

    It is no less than what the means differ by: 0.2 allows a mean that is 20 % off, and nothing else.
    """
    return float(wasserstein_distance(a, b) / np.asarray(b, np.float64).mean())


def point_diversity(takes: ArrayLike) -> float:
    """Mean distance of points in the takes ``[S, T, N, D]`` of one scene: over pairs of takes, frames and points.

    Frames that hold NaN in either take are left out; NaN where none is left.
    """
    x = np.asarray(takes, np.float64)
    return _over_pairs([np.linalg.norm(a - b, axis=-1).mean(1) for a, b in combinations(x, 2)])


def turn_diversity(takes: ArrayLike) -> float:
    """Mean angle in degrees between the heads of the takes ``[S, T, 3]``, rotation vectors in radians; as above."""
    angles = []
    for a, b in combinations(np.asarray(takes, np.float64), 2):
        seen = np.isfinite(a + b).all(1)
        angles.append(np.rad2deg((Rotation.from_rotvec(a[seen]) * Rotation.from_rotvec(b[seen]).inv()).magnitude()))
    return _over_pairs(angles)


def _over_pairs(distances: list[Array]) -> float:
    """The mean over pairs of the means over their frames ``[T]``."""
    means = [known.mean() for pair in distances if len(known := pair[np.isfinite(pair)])]
    return float(np.mean(means)) if means else float("nan")
