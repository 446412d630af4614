"""Fidelity of frames to the real ones: PSNR, SSIM, LPIPS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.image import PeakSignalNoiseRatio

from magictalk.metrics import networks
from magictalk.metrics.functional.image import ssim
from magictalk.metrics.mean import Mean


class PSNR(PeakSignalNoiseRatio):
    """Peak signal-to-noise ratio of all pixels together, as torchmetrics has it; infinite where all are equal.

    The squared error is averaged before the logarithm, so that one perfect frame does not hide the others.
    """

    figure = "PSNR"
    unit = "dB"
    needs: str | None = None

    def __init__(self, **options: Any) -> None:
        super().__init__(data_range=255.0, **options)

    def update(self, generated: NDArray[np.uint8], reference: NDArray[np.uint8]) -> None:  # type: ignore[override]
        """Take frames ``[T, H, W, 3]`` and the real ones."""
        for a, b in zip(networks.batches(generated), networks.batches(reference), strict=True):
            super().update(a, b)


class SSIM(Mean):
    """Structural similarity, mean over frames. torchmetrics' has the same value and takes five times as long here."""

    figure = "SSIM"
    higher_is_better = True

    def update(self, generated: NDArray[np.uint8], reference: NDArray[np.uint8]) -> None:
        """Take frames ``[T, H, W, 3]`` and the real ones."""
        self.add([ssim(a, b) for a, b in zip(generated, reference, strict=True)])


class LPIPS(Mean):
    """Learned perceptual distance on AlexNet (Zhang et al. 2018), mean over frames.

    Raises:
        NotComputed: the network is not in the folder ``weights``.
    """

    figure = "LPIPS"
    higher_is_better = False
    needs = "lpips"

    def __init__(self, weights: str | Path | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.network = networks.script("lpips", weights)

    @torch.inference_mode()
    def update(self, generated: NDArray[np.uint8], reference: NDArray[np.uint8]) -> None:
        """Take frames ``[T, H, W, 3]`` and the real ones."""
        for a, b in zip(networks.batches(generated), networks.batches(reference), strict=True):
            distance: Tensor = self.network(a / 127.5 - 1, b / 127.5 - 1)
            self.add(distance.flatten())
