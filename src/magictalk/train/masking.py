"""Regions of frames that are lost in noise, for a network to make up (PortraitTalk, section III-A)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from magictalk.errors import OptionError

Shape = Literal["patches", "blobs"]


@dataclass(frozen=True)
class Masking:
    """What is corrupted.

    Attributes:
        ratio: share of a frame's pixels, 0..1.
        shapes: drawn from for each frame: ``"patches"`` are squares of a grid, ``"blobs"`` are areas without corners.
        grid: squares a side.

    Raises:
        OptionError: when a value is out of its range.
    """

    ratio: float = 0.3
    shapes: tuple[Shape, ...] = ("patches", "blobs")
    grid: int = 8

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise OptionError(f"mask ratio is {self.ratio:g}; expected a share from 0 to 1")
        if not self.shapes or any(shape not in get_args(Shape) for shape in self.shapes):
            raise OptionError(
                f"mask shapes are {', '.join(self.shapes) or 'none'}; expected {', '.join(get_args(Shape))}"
            )
        if self.grid < 1:
            raise OptionError(f"mask grid is {self.grid}; expected 1 or more")

    def __call__(self, side: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        """The pixels ``[side, side]`` of one frame that are lost: ``ratio`` of them, to the pixel.

        Regions are taken in a random order until there are enough; of the last one only a part is.
        """
        if str(rng.choice(self.shapes)) == "patches":
            order = rng.permutation(self.grid**2).reshape(self.grid, self.grid)
            places = np.arange(side) * self.grid // side
            height = order[places][:, places] + np.linspace(0, 0.5, side)[:, None]  # within a square, from its top
        else:
            height = gaussian_filter(rng.standard_normal((side, side)), side / self.grid / 2, mode="wrap")
        lost = np.zeros(side * side, bool)
        lost[np.argsort(height, axis=None, kind="stable")[: round(self.ratio * side * side)]] = True
        return lost.reshape(side, side)

    def corrupted(self, pictures: Tensor, rng: np.random.Generator) -> Tensor:
        """Pictures ``[B, 3, S, S]``, -1..1, with regions of each lost in Gaussian noise.

        Noise of a standard deviation of 1/2 about grey and not zeros: what a diffusion network takes away anyway.
        """
        lost = torch.from_numpy(np.stack([self(pictures.shape[-1], rng) for _ in pictures]))[:, None]
        noise = torch.from_numpy(rng.standard_normal(tuple(pictures.shape), np.float32)) / 2
        return torch.where(lost.to(pictures.device), noise.to(pictures), pictures).clamp(-1, 1)
