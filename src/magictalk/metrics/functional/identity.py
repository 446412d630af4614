"""Is it still the same person: cosine of embeddings, and how it drifts over a video."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def cosine(embeddings: ArrayLike, reference: ArrayLike) -> NDArray[np.float64]:
    """Cosine ``[T]`` of embeddings ``[T, D]`` with a reference ``[D]``, or with one each ``[T, D]``; NaN of zeros."""
    a, b = np.atleast_2d(np.asarray(embeddings, np.float64)), np.asarray(reference, np.float64)
    with np.errstate(invalid="ignore"):
        return (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))


SHORTEST_DRIFT_S = 10.0
"""Seconds that a face must be known for: over three seconds, noise of 0.005 reads as 0.15 a minute."""


def drift(similarities: ArrayLike, fps: float = 25.0) -> float:
    """Slope of similarity against time, a minute: least squares over ``[T]``; NaN frames are left out.

    Negative where the face moves away from its reference. NaN when the known frames span less than
    ``SHORTEST_DRIFT_S``.
    """
    y = np.asarray(similarities, np.float64)
    known = np.isfinite(y)
    minutes = np.flatnonzero(known) / fps / 60
    if not known.any() or 60 * np.ptp(minutes) < SHORTEST_DRIFT_S - 1 / fps - 1e-9:
        return float("nan")
    return float(np.polyfit(minutes - minutes.mean(), y[known], 1)[0])
