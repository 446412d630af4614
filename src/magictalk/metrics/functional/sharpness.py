"""Sharpness without a reference: the cumulative probability of blur detection.

Narvekar and Karam, "A no-reference image blur metric based on the cumulative probability of blur detection
(CPBD)", IEEE Transactions on Image Processing 20 (9), 2011. A viewer sees blur at an edge whose width exceeds
the just noticeable one; CPBD is the share of edges at which no blur is seen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from magictalk.errors import OptionError

BLOCK = 64
"""Side of a block in pixels."""

_EDGE_SHARE = 0.002  # a block with more edge pixels than this is an edge block
_BETA = 3.6  # slope of the psychometric function
_JNB_SEEN = 0.63  # P_blur at an edge of just noticeable width, 1 - 1/e as the paper rounds it


def cpbd(gray: ArrayLike) -> float:
    """Share of the edges whose probability of blur detection is at most 63 %.

    Args:
        gray: an image ``[H, W]``, grey levels 0 to 255, integer or float.

    Returns:
        0 (every edge is seen as blurred, or there is no edge) to 1 (none is). Rows and columns beyond the
        last whole block are left out, as in the authors' program. Edges are Sobel's vertical ones, which
        also tell edge blocks from others (more than 0.2 % of a block's pixels).

    Raises:
        OptionError: the array has not two axes, or is smaller than a block.
    """
    image = np.asarray(gray, np.float32)
    if image.ndim != 2 or min(image.shape) < BLOCK:
        raise OptionError(f"image of shape {image.shape}; expected [H, W] of at least {BLOCK} x {BLOCK} pixels")
    edges = vertical_edges(image)
    rows, columns = np.nonzero(edges)
    widths = edge_widths(image, rows, columns)

    high, wide = image.shape[0] // BLOCK, image.shape[1] // BLOCK
    blocks = image[: high * BLOCK, : wide * BLOCK].reshape(high, BLOCK, wide, BLOCK)
    contrast = np.rint(blocks.max((1, 3)) - blocks.min((1, 3)))
    just_noticeable = np.where(contrast <= 50, 5.0, 3.0)

    whole = (rows < high * BLOCK) & (columns < wide * BLOCK)
    at = rows[whole] // BLOCK, columns[whole] // BLOCK
    count = np.zeros((high, wide), int)
    np.add.at(count, at, 1)
    measured = (count[at] > _EDGE_SHARE * BLOCK**2) & (widths[whole] > 0)
    if not measured.any():
        return 0.0
    p_blur = 1 - np.exp(-((widths[whole] / just_noticeable[at]) ** _BETA))
    return float((np.round(p_blur[measured], 2) <= _JNB_SEEN).mean())


def vertical_edges(image: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Sobel's vertical edges of ``[H, W]``, thinned to a pixel along rows.

    An edge is a maximum of the squared gradient along its row, above four times the picture's mean.
    """
    import cv2

    strength = (cv2.Sobel(image, cv2.CV_32F, 1, 0, borderType=cv2.BORDER_REPLICATE) / 8) ** 2
    edges = strength > 4 * strength.mean(dtype=np.float64)
    edges[:, 0] = edges[:, -1] = False
    edges[:, 1:-1] &= (strength[:, 1:-1] > strength[:, :-2]) & (strength[:, 1:-1] >= strength[:, 2:])
    return edges


def edge_widths(
    image: NDArray[np.float32], rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> NDArray[np.float64]:  # fmt: skip
    """Widths ``[N]`` in pixels after Marziliano et al. (2002), of edges at ``rows`` and ``columns``, ``[N]`` each.

    The width is the distance along the row from the local minimum on one side to the local maximum on the
    other. It is 0, not measured, where the gradient's direction is not within 22.5 degrees of the row's.
    """
    slope_y, slope_x = np.gradient(image)
    across = slope_x[rows, columns]
    level = np.abs(slope_y[rows, columns]) <= np.tan(np.pi / 8) * np.abs(across)

    step = np.sign(np.diff(image, axis=1))
    at = np.arange(step.shape[1])
    width = np.zeros(len(rows))
    for direction in (1, -1):
        monotone = step == direction
        # nearest step at or before, and at or after, each one that goes another way
        before = np.maximum.accumulate(np.where(monotone, -1, at), axis=1)
        after = np.minimum.accumulate(np.where(monotone, at[-1] + 1, at)[:, ::-1], axis=1)[:, ::-1]
        mine = level & (np.sign(across) == direction)
        r, c = rows[mine], columns[mine]
        width[mine] = after[r, c] - before[r, c - 1] - 1
    return width
