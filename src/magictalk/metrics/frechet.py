"""Fréchet distances of features: FID, FVD, E-FID."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torchmetrics import Metric

from magictalk.metrics import networks
from magictalk.metrics.functional.frechet import frechet_distance


class FrechetDistance(Metric):
    """Fréchet distance between generated and real features of ``size`` numbers each.

    Holds sums, not features, so that memory does not grow with the set. NaN until both sides have two rows.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    figure: str = "Fréchet distance"
    unit: str = ""
    needs: str | None = None
    count: Tensor
    sum: Tensor
    products: Tensor

    def __init__(self, size: int, **options: Any) -> None:
        super().__init__(**options)
        # generated, then real
        self.add_state("count", torch.zeros(2, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("sum", torch.zeros(2, size, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("products", torch.zeros(2, size, size, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, features: ArrayLike, real: bool) -> None:
        """Take features ``[N, size]`` of real or of generated pictures; rows with a NaN are left out."""
        x = torch.as_tensor(np.asarray(features), dtype=torch.float64)
        x = x[x.isfinite().all(1)]
        self.count[int(real)] += len(x)
        self.sum[int(real)] += x.sum(0)
        self.products[int(real)] += x.T @ x

    def compute(self) -> Tensor:
        """The distance, a float64 scalar."""
        if self.count.min() < 2:
            return torch.tensor(float("nan"), dtype=torch.float64)
        mean = self.sum / self.count[:, None]
        squares = self.products - self.count[:, None, None] * mean[:, :, None] * mean[:, None, :]
        covariance = squares / (self.count - 1)[:, None, None]
        a, b = zip(mean.numpy(), covariance.numpy(), strict=True)
        return torch.tensor(frechet_distance(*a, *b), dtype=torch.float64)


class FID(FrechetDistance):
    """Fréchet Inception distance (Heusel et al. 2017) of all frames, on the 2048 features of the pool layer.

    Raises:
        NotComputed: the network is not in the folder ``weights``.
    """

    figure = "FID"
    needs = "inception"

    def __init__(self, weights: str | Path | None = None, **options: Any) -> None:
        super().__init__(2048, **options)
        self.network = networks.script("inception", weights)

    @torch.inference_mode()
    def features(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features ``[T, 2048]`` of frames ``[T, H, W, 3]``; the network itself resizes to 299 x 299."""
        return networks.joined(self.network(batch, return_features=True) for batch in networks.batches(frames))

    def update(self, frames: NDArray[np.uint8], real: bool) -> None:  # type: ignore[override]
        """Take real or generated frames ``[T, H, W, 3]``."""
        super().update(self.features(frames), real)


class FVD(FrechetDistance):
    """Fréchet video distance (Unterthiner et al. 2018) of consecutive clips of 16 frames, on I3D's 400 logits.

    Raises:
        NotComputed: the network is not in the folder ``weights``.
    """

    figure = "FVD"
    needs = "i3d"
    CLIP = 16
    """Frames in a clip."""

    def __init__(self, weights: str | Path | None = None, **options: Any) -> None:
        super().__init__(400, **options)
        self.network = networks.script("i3d", weights)

    @torch.inference_mode()
    def features(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features ``[T // 16, 400]`` of frames ``[T, H, W, 3]``; the network itself resizes to 224 x 224."""
        whole = len(frames) // self.CLIP * self.CLIP
        if whole == 0:
            return np.zeros((0, 400), np.float32)
        clips = (batch.transpose(0, 1)[None] for batch in networks.batches(frames[:whole], self.CLIP))
        return networks.joined(self.network(c, rescale=True, resize=True, return_features=True) for c in clips)

    def update(self, frames: NDArray[np.uint8], real: bool) -> None:  # type: ignore[override]
        """Take consecutive real or generated frames ``[T, H, W, 3]``; those after the last whole 16 are left out."""
        super().update(self.features(frames), real)


class EFID(FrechetDistance):
    """Fréchet distance of expressions, each frame's 52 ARKit coefficients.

    The field's E-FID takes the expression coefficients of a 3D morphable model, whose use is restricted; values
    do not compare with it, hence the name.
    """

    figure = "E-FID (ARKit)"

    def __init__(self, **options: Any) -> None:
        super().__init__(52, **options)
