"""Soft masks of the holes in the face (eyes, mouth), and where in the picture they are."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int, int, int]
"""``(left, top, right, bottom)`` in whole pixels; right and bottom are outside."""


def box_around(points: NDArray[np.float32], pad: float, size: tuple[int, int]) -> Box:
    """Whole-pixel box around points ``[n, 2]``, ``pad`` pixels larger, clipped to ``size`` (width, height)."""
    low, high = points.min(0) - pad, points.max(0) + pad
    left, top = (int(max(0, np.floor(v))) for v in low)
    return left, top, int(min(size[0], np.ceil(high[0]) + 1)), int(min(size[1], np.ceil(high[1]) + 1))


def inner_mask(polygon: NDArray[np.float32], box: Box, feather: float) -> NDArray[np.float32]:
    """Coverage of a polygon, 0..1 ``[h, w]``, fading from its edge inward over about ``feather`` pixels.

    Slits thinner than the feather vanish, so a hole closes without popping.
    """
    left, top, right, bottom = box
    fine = int(np.clip(np.ceil(4.0 / max(feather, 0.5)), 1, 4))
    height, width = (bottom - top) * fine, (right - left) * fine
    mask = np.zeros((height, width), np.uint8)
    # pixel centres are at whole coordinates; fillPoly takes 1/16 pixels
    points = np.round(((polygon - [left, top]) * fine + (fine - 1) / 2) * 16).astype(np.int32)
    cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, 4)
    soft = cv2.GaussianBlur(mask, (0, 0), max(0.6, feather * fine)).astype(np.float32) / 255
    if fine > 1:
        soft = cv2.resize(soft, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
    t = np.clip((soft - 0.45) / 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def paste(canvas: NDArray[np.uint8], box: Box, layer: NDArray[np.float32], mask: NDArray[np.float32]) -> None:
    """Blend ``layer`` ``[h, w, 3]`` over the canvas inside ``box``, in place."""
    left, top, right, bottom = box
    part = canvas[top:bottom, left:right]
    mixed = part + (layer - part) * mask[..., None]
    part[:] = np.clip(mixed + 0.5, 0, 255).astype(np.uint8)


def affine_from(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """The ``[2, 3]`` affine map through three point pairs ``[3, 2]``."""
    return np.linalg.solve(np.column_stack([source, np.ones(3)]), target).T


def invert(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of a ``[2, 3]`` affine map."""
    linear = np.linalg.inv(affine[:, :2])
    return np.column_stack([linear, -linear @ affine[:, 2]])
