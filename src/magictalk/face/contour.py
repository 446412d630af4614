"""Edges of a head: the structure that MAGIC-Talk (section 3) and PortraitTalk (section III-B 2) draw from a picture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from magictalk.face.person import person_mask
from magictalk.face.pose import Pose

_FINE_PX, _COARSE_PX = 80.0, 28.0
"""Distance between the eyes, in pixels, at which edges are looked for: finer ones are pores, grain and noise."""
_BLUR_PX = 1.5
"""Standard deviation of the blur before Canny, in pixels at that scale."""
_LOW, _HIGH = 0.75, 0.9
"""Canny's two thresholds as quantiles of the gradient over what is drawn, so that light and contrast do not matter."""
_FINE_LENGTH, _COARSE_LENGTH = 0.2, 0.5
"""Edges that stay are at least so long, in inter-ocular distances."""
_MARGIN = 0.12
"""How far beyond the person's mask an edge may lie, and inside of the mesh's rim a coarse one, in the same unit."""


def contour(
    image: NDArray[np.uint8],
    landmarks: NDArray[np.float32],
    coarse: bool = False,
    person: NDArray[np.float32] | None = None,
) -> NDArray[np.bool_]:
    """Where head and shoulders have edges: bool ``[H, W]`` of an RGB picture ``[H, W, 3]`` with mesh ``[478, 3]`` px.

    Canny's edges (1986), looked for at a scale that the head's size gives, so a picture enlarged gives the same
    lines; the background's are left out. Takes 10 to 20 ms at 512 x 512.

    Args:
        image: the picture.
        landmarks: the mesh of the face in it.
        coarse: outline of head, hair and shoulders only, nothing inside of the face: PortraitTalk's Canny
            detector "with reduced sensitivity to local details". By default features and hair too, as MAGIC-Talk.
        person: what :func:`person_mask` says of the picture, where that is known.
    """
    unit = _COARSE_PX if coarse else _FINE_PX
    scale = unit / float(Pose.fit(landmarks).scale_px)
    size = [max(8, round(n * scale)) for n in image.shape[1::-1]]
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    face = _inside(landmarks[:, :2] * scale, size)
    wanted = _grow((cv2.resize(person_mask(image) if person is None else person, size) > 0.5) | face, _MARGIN * unit)
    edges = _canny(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), wanted if coarse else face)
    if coarse:
        wanted &= ~_grow(face, -_MARGIN * unit)
    edges = _long(edges & wanted, (_COARSE_LENGTH if coarse else _FINE_LENGTH) * unit)
    return cv2.resize(edges.astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_NEAREST).astype(bool)


def _canny(grey: NDArray[np.uint8], where: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Canny's edges of a grey picture, with thresholds from the gradients ``where``."""
    soft = cv2.GaussianBlur(grey, (0, 0), _BLUR_PX)
    across, down = cv2.Sobel(soft, cv2.CV_16S, 1, 0), cv2.Sobel(soft, cv2.CV_16S, 0, 1)
    strength = np.abs(across.astype(np.int32)) + np.abs(down)
    low, high = np.quantile(strength[where], [_LOW, _HIGH])
    return cv2.Canny(across, down, float(low), float(high)) > 0


def _inside(points: NDArray[np.float32], size: list[int]) -> NDArray[np.bool_]:
    """The mesh's area ``[H, W]`` from its points ``[478, 2]``; size is (W, H)."""
    area = np.zeros(size[::-1], np.uint8)
    cv2.fillConvexPoly(area, cv2.convexHull(np.round(points).astype(np.int32)), 1)
    return area > 0


def _grow(mask: NDArray[np.bool_], pixels: float) -> NDArray[np.bool_]:
    """A mask grown by so many pixels, shrunk when negative."""
    side = 2 * round(abs(pixels)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    change = cv2.dilate if pixels > 0 else cv2.erode
    return change(mask.astype(np.uint8), kernel) > 0


def _long(edges: NDArray[np.bool_], pixels: float) -> NDArray[np.bool_]:
    """Connected edges whose bounding box has a diagonal of so many pixels or more."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(edges.astype(np.uint8), connectivity=8)
    keep = np.hypot(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT]) >= pixels
    keep[0] = False
    return keep[labels]
