"""What most figures are: a mean of scores, of frames or of clips, that can be merged across processes."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torchmetrics import Metric


class Mean(Metric):
    """Mean of the scores that ``update`` of a subclass adds. NaNs (a frame without a face, …) are left out.

    Class attributes of every figure:
        figure: its name in tables.
        unit: of its value; empty for a pure number.
        higher_is_better: None where neither direction is.
        needs: the network of :mod:`magictalk.metrics.networks` that must be there, or None.
    """

    full_state_update = False
    is_differentiable = False
    figure: str
    unit: str = ""
    needs: str | None = None
    total: Tensor
    count: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def add(self, scores: ArrayLike) -> None:
        """Take one score or many, any shape."""
        values = torch.as_tensor(scores, dtype=torch.float64).reshape(-1)
        known = values[~values.isnan()]
        self.total += known.sum()
        self.count += len(known)

    def compute(self) -> Tensor:
        """The mean, a float64 scalar; NaN where no score came."""
        return self.total / self.count
