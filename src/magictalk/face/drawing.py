"""Landmarks as a picture: the control map of AnimateNet (MAGIC-Talk, section 3.2).

Drawn as CrucibleAI's ControlNetMediaPipeFace was taught to read them, so that the public network can be used too: rim,
brows, eyes and lips in its colours, two pixels thick at 512 pixels, and pupils of four pixels. Smaller pictures have
lines of a pixel, which two made smaller would not be.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from magictalk.face.landmarks import mediapipe_solutions

DRAWN_AT = 512
"""Pixels of the picture that lines are two pixels thick in; smaller ones are drawn there, thicker, and made smaller."""

_COLOURS = {
    "FACEMESH_FACE_OVAL": (10, 200, 10),
    "FACEMESH_LEFT_EYE": (10, 200, 180),
    "FACEMESH_LEFT_EYEBROW": (10, 220, 180),
    "FACEMESH_RIGHT_EYE": (180, 200, 10),
    "FACEMESH_RIGHT_EYEBROW": (180, 220, 10),
    "FACEMESH_LIPS": (10, 180, 10),
}
"""RGB of MediaPipe's groups of lines, in the order in which they are drawn; left and right are the person's."""
_PUPILS = {468: (250, 200, 10), 473: (10, 200, 250)}


def draw_landmarks(points: NDArray[np.floating], side: int) -> NDArray[np.uint8]:
    """A square picture of a face, uint8 RGB ``[side, side, 3]``, black where there is nothing.

    Args:
        points: mesh ``[478, 2 or 3]`` in pixels of that picture.
        side: pixels.
    """
    if side < DRAWN_AT:
        large = _draw(points * np.float32(DRAWN_AT / side), DRAWN_AT, max(2, round(DRAWN_AT / side)))
        return np.asarray(cv2.resize(large, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    return _draw(points, side, 2)


def _draw(points: NDArray[np.floating], side: int, thick: int) -> NDArray[np.uint8]:
    """The same with lines of ``thick`` pixels and pupils of twice as many."""
    picture = np.zeros((side, side, 3), np.uint8)
    places = np.floor(points[:, :2]).astype(int)
    inside = ((points[:, :2] >= 0) & (points[:, :2] <= side)).all(1)
    places = np.minimum(places, side - 1)
    for (a, b), colour in _lines():
        if inside[a] and inside[b]:
            cv2.line(picture, places[a].tolist(), places[b].tolist(), colour, thick)
    for point, colour in _PUPILS.items():
        x, y = places[point]
        if inside[point]:
            picture[max(0, y - thick) : y + thick, max(0, x - thick) : x + thick] = colour
    return picture


@cache
def _lines() -> tuple[tuple[tuple[int, int], tuple[int, int, int]], ...]:
    lines = mediapipe_solutions().face_mesh_connections
    return tuple((edge, colour) for group, colour in _COLOURS.items() for edge in getattr(lines, group))
