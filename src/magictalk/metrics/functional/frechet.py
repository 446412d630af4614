"""Fréchet distance between two sets of features (Dowson and Landau 1982), each taken as a Gaussian."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from magictalk.errors import OptionError


def frechet_distance(
    mean_a: ArrayLike, covariance_a: ArrayLike, mean_b: ArrayLike, covariance_b: ArrayLike
) -> float:  # fmt: skip
    """``|mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2))`` of means ``[D]`` and covariances ``[D, D]``.

    The root's trace is that of ``(A^(1/2) B A^(1/2))^(1/2)``, which stays real where there are fewer samples
    than dimensions (FID: Heusel et al. 2017, eq. 6).
    """
    a, b = np.asarray(covariance_a, np.float64), np.asarray(covariance_b, np.float64)
    values, vectors = np.linalg.eigh(a)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ b @ root), 0)).sum()
    apart = np.asarray(mean_a, np.float64) - np.asarray(mean_b, np.float64)
    # rounding can leave a hair below 0
    return max(0.0, float(apart @ apart + np.trace(a) + np.trace(b) - 2 * shared))


def moments(features: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean ``[D]`` and unbiased covariance ``[D, D]`` of features ``[N, D]``.

    Raises:
        OptionError: fewer than two rows.
    """
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or len(x) < 2:
        raise OptionError(f"features of shape {x.shape}; expected [N, D] with N of at least 2")
    return x.mean(0), np.cov(x, rowvar=False).reshape(x.shape[1], x.shape[1])
