"""Image fidelity within a region: PSNR and SSIM."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from magictalk.errors import OptionError

_MARGIN = 5  # pixels by which SSIM's window reaches over its middle


def psnr(image: NDArray[np.uint8], reference: NDArray[np.uint8], region: NDArray[np.bool_] | None = None) -> float:
    """Peak signal-to-noise ratio in dB of uint8 images ``[H, W, 3]``, over a region ``[H, W]`` or all of them.

    Infinite where they are equal.
    """
    square = (image.astype(np.float64) - reference) ** 2
    error = square.mean() if region is None else square[region].mean()
    return float(10 * np.log10(255**2 / error)) if error > 0 else float("inf")


def ssim(image: NDArray[np.uint8], reference: NDArray[np.uint8], region: NDArray[np.bool_] | None = None) -> float:
    """Structural similarity (Wang et al. 2004) of uint8 images ``[H, W, 3]``, averaged over a region or all.

    The value is torchmetrics': a Gaussian window of 11 x 11, the picture mirrored at its border.

    Raises:
        OptionError: the images are smaller than the window, or of different sizes.
    """
    from skimage.metrics import structural_similarity

    if image.shape != reference.shape or min(image.shape[:2]) < 2 * _MARGIN + 1:
        raise OptionError(f"images of {image.shape} and {reference.shape}; expected two alike of at least 11 x 11")
    a, b = (np.pad(x, ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0)), "reflect") for x in (image, reference))
    _, similarity = structural_similarity(
        a, b, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    inside = similarity[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    return float(inside.mean() if region is None else inside[region].mean())
