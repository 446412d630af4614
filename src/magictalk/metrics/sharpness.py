"""Sharpness without a reference: CPBD."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from magictalk.metrics.functional.sharpness import BLOCK, cpbd
from magictalk.metrics.mean import Mean


class CPBD(Mean):
    """Cumulative probability of blur detection (Narvekar and Karam 2011), mean over frames; 0 blurred, 1 sharp.

    It judges edges, whose number and kind depend on the subject: compare only pictures of the same subject.
    """

    figure = "CPBD"
    higher_is_better = True

    def update(self, frames: Iterable[NDArray[np.uint8]], boxes: ArrayLike | None = None) -> None:
        """Take RGB frames ``[T, H, W, 3]``; ``boxes`` ``[T, 4]`` (x, y, w, h in pixels) judge a part of each alone.

        A box is widened to 64 x 64 pixels, a block of the measure, where it is smaller.
        """
        import cv2

        parts = frames if boxes is None else map(_cut, frames, np.asarray(boxes, np.float64))
        self.add([cpbd(cv2.cvtColor(part, cv2.COLOR_RGB2GRAY)) for part in parts])


def _cut(frame: NDArray[np.uint8], box: NDArray[np.float64]) -> NDArray[np.uint8]:
    middle, size = box[:2] + box[2:] / 2, np.maximum(box[2:], BLOCK)
    limit = np.array(frame.shape[1::-1])
    low = np.clip(np.rint(middle - size / 2), 0, np.maximum(0, limit - size)).astype(int)
    high = np.minimum(low + np.rint(size).astype(int), limit)
    return np.ascontiguousarray(frame[low[1] : high[1], low[0] : high[0]])
