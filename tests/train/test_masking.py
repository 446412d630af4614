"""Masks hit the stated share of pixels, and leave the others alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import label

from magictalk.errors import OptionError
from magictalk.train.masking import Masking


@given(st.floats(0, 1), st.sampled_from(["patches", "blobs"]), st.integers(8, 80), st.integers(0, 2**32 - 1))
def test_masks_hit_the_stated_share(ratio: float, shape: Any, side: int, seed: int) -> None:
    lost = Masking(ratio, (shape,))(side, np.random.default_rng(seed))
    assert lost.shape == (side, side) and lost.sum() == round(ratio * side**2)


def test_regions_are_regions() -> None:
    """A third of a picture of 64 in squares of 8: 21 of them and a part, not salt and pepper."""
    lost = Masking(1 / 3, ("patches",))(64, np.random.default_rng(0))
    squares = lost.reshape(8, 8, 8, 8).mean((1, 3))
    assert (squares == 1).sum() == 21 and ((squares > 0) & (squares < 1)).sum() == 1
    lost = Masking(1 / 3, ("blobs",))(64, np.random.default_rng(0))
    assert label(lost)[1] < 30 and label(np.random.default_rng(0).random((64, 64)) < 1 / 3)[1] > 200


def test_regions_differ_between_frames_and_the_rest_stays() -> None:
    pictures = torch.full((2, 3, 32, 32), 0.9)
    made = Masking(0.3).corrupted(pictures, np.random.default_rng(0))
    lost = (made != pictures).any(1)
    assert not torch.equal(lost[0], lost[1]) and (lost.float().mean((1, 2)) - 0.3).abs().max() < 0.01
    noise = made[(made != pictures)]
    assert abs(float(noise.mean())) < 0.05 and 0.4 < float(noise.std()) < 0.5  # of 1/2, cut off at white and black
    assert torch.equal(made, Masking(0.3).corrupted(pictures, np.random.default_rng(0)))
    assert torch.equal(Masking(0.0).corrupted(pictures, np.random.default_rng(0)), pictures)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ratio": 1.2}, r"mask ratio is 1\.2; expected a share from 0 to 1"),
        ({"ratio": -0.1}, "mask ratio"),
        ({"shapes": ("stars",)}, "mask shapes are stars; expected patches, blobs"),
        ({"shapes": ()}, "mask shapes are none"),
        ({"grid": 0}, "mask grid is 0"),
    ],
)
def test_bad_masks(options: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        Masking(**options)
