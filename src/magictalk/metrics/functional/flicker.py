"""Temporal flicker: what changes from frame to frame that motion does not explain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_AGREE_PX = 1.0  # forward and backward flow may differ by this where they count as consistent


def residual(previous: NDArray[np.uint8], frame: NDArray[np.uint8]) -> float:
    """Mean absolute change in grey levels (0 to 255) between two RGB frames ``[H, W, 3]`` after motion is undone.

    The previous frame is warped by dense inverse search flow (Kroeger et al. 2016), which is blind to a patch's
    mean brightness; pixels count where the flow forth and back lands within a pixel of its start, so that what
    was uncovered does not. NaN where there is none, as at a cut.
    """
    import cv2

    h, w = frame.shape[:2]
    before, now = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (previous, frame))
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    back = search.calc(now, before, None)
    forth = search.calc(before, now, None)

    x, y = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))
    source_x, source_y = x + back[..., 0], y + back[..., 1]
    returned = back + cv2.remap(forth, source_x, source_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = (source_x >= 0) & (source_x <= w - 1) & (source_y >= 0) & (source_y <= h - 1)
    consistent = inside & (np.linalg.norm(returned, axis=-1) < _AGREE_PX)
    if not consistent.any():
        return float("nan")
    warped = cv2.remap(previous.astype(np.float32), source_x, source_y, cv2.INTER_LINEAR)
    return float(np.abs(warped - frame)[consistent].mean())
