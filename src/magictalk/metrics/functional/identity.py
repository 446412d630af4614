"""Is it still the same person: cosine of embeddings, and how it drifts over a video."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def cosine(embeddings: ArrayLike, reference: ArrayLike) -> NDArray[np.float64]:
    """Cosine ``[T]`` of embeddings ``[T, D]`` with a reference ``[D]``, or with one each ``[T, D]``; NaN of zeros."""
    a, b = np.atleast_2d(np.asarray(embeddings, np.float64)), np.asarray(reference, np.float64)
    with np.errstate(invalid="ignore"):
        return (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))


def drift(similarities: ArrayLike, fps: float = 25.0) -> float:
    """Slope of similarity against time, a minute: least squares over ``[T]``; NaN frames are left out.

    Negative where the face moves away from its reference. NaN when fewer than two frames are known.
    """
    y = np.asarray(similarities, np.float64)
    known = np.isfinite(y)
    if known.sum() < 2:
        return float("nan")
    minutes = np.flatnonzero(known) / fps / 60
    return float(np.polyfit(minutes - minutes.mean(), y[known], 1)[0])


def curve(
    similarities: ArrayLike, fps: float = 25.0, window_s: float = 1.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean similarity in consecutive windows: their middles in seconds and their means, ``[K]`` each.

    The last window may be shorter. A window without a known frame is NaN.
    """
    y = np.asarray(similarities, np.float64)
    size = max(1, round(window_s * fps))
    windows = [y[i : i + size] for i in range(0, len(y), size)]
    middles = [(i * size + (len(window) - 1) / 2) / fps for i, window in enumerate(windows)]
    means = [window[np.isfinite(window)].mean() if np.isfinite(window).any() else np.nan for window in windows]
    return np.array(middles), np.array(means)
