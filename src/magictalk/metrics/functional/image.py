"""Image fidelity within a region: PSNR and SSIM."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def psnr(image: NDArray[np.uint8], reference: NDArray[np.uint8], region: NDArray[np.bool_] | None = None) -> float:
    """Peak signal-to-noise ratio in dB of uint8 images ``[H, W, 3]``, over a region ``[H, W]`` or all of them.

    Infinite where they are equal.
    """
    square = (image.astype(np.float64) - reference) ** 2
    error = square.mean() if region is None else square[region].mean()
    return float(10 * np.log10(255**2 / error)) if error > 0 else float("inf")


def ssim(image: NDArray[np.uint8], reference: NDArray[np.uint8], region: NDArray[np.bool_] | None = None) -> float:
    """Structural similarity (Wang et al. 2004) of uint8 images ``[H, W, 3]``, averaged over a region or all."""
    from skimage.metrics import structural_similarity

    _, similarity = structural_similarity(
        image, reference, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True,
    )  # fmt: skip
    return float(similarity.mean() if region is None else similarity[region].mean())
