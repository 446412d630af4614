"""The square around a head that generated pictures show: what datasets are cut to, and portraits too."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ABOVE, _BELOW, _BESIDE = 0.55, 0.45, 0.4
"""Room for hair, chin and shoulders around the face's path, in heights and widths of the mesh's box."""


def head_square(
    low: NDArray[np.floating], high: NDArray[np.floating], face: NDArray[np.floating], picture: tuple[int, int]
) -> tuple[int, int, int] | None:
    """``(x, y, side)`` of one square for a whole clip, in whole pixels, with room for hair, chin and some shoulder.

    It is moved into the picture, and shrunk to the picture's shorter side, rather than padded.

    Args:
        low, high: corners ``[2]`` of where the face goes, pixels.
        face: width and height of the face.
        picture: width and height.

    Returns:
        None when the face goes further than one such square reaches.
    """
    size = np.array(picture)
    wanted_low, wanted_high = low - [_BESIDE, _ABOVE] * face, high + [_BESIDE, _BELOW] * face
    side = int(min((wanted_high - wanted_low).max(), size.min()))
    first, last = np.ceil(high - side).clip(0), np.floor(low).clip(max=size - side)
    if (first > last).any():
        return None
    corner = np.clip(np.round((wanted_low + wanted_high - side) / 2), first, last)
    return int(corner[0]), int(corner[1]), side
