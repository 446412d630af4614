"""Draw every shape of the rig at 1.0 over the neutral face in grey: python recipes/rig_shapes.py"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from magictalk.face import rig as parts
from magictalk.face.rig import Rig
from magictalk.motion import ARKIT

COLUMNS, WIDTH, HEIGHT, UNIT = 9, 260, 315, 98  # panels a row; a panel's size and inter-ocular distance, pixels
LIP_RINGS = (
    (*parts.UPPER_OUTER_LIP, *parts.LOWER_OUTER_LIP[::-1]),
    (*parts.UPPER_INNER_LIP, *parts.LOWER_INNER_LIP[::-1]),
)
LID_RINGS = (
    (33, *parts.UPPER_LIDS[0], 133, *parts.LOWER_LIDS[0][::-1]),
    (263, *parts.UPPER_LIDS[1], 362, *parts.LOWER_LIDS[1][::-1]),
)
BROW_RINGS = (46, 53, 52, 65, 55, 107, 66, 105, 63, 70), (276, 283, 282, 295, 285, 336, 296, 334, 293, 300)


def draw(points: NDArray, neutral: NDArray, triangles: NDArray, title: str, yaw: float = 0.0) -> NDArray[np.uint8]:
    """One panel: the moved face shaded, its mesh, lips, lids and irises; the neutral's outlines in grey."""
    panel = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])

    def px(p: NDArray) -> NDArray[np.int32]:
        p = p @ turn.T
        return ((p[..., :2] * [UNIT, -UNIT] + [WIDTH / 2, 0.36 * HEIGHT]) * 16).round().astype(np.int32)

    corners = points[triangles] @ turn.T
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    for n in np.argsort(corners[:, :, 2].mean(1)):
        if normal[n, 2] > 0:
            shade = 0.45 + 0.55 * max(0.0, float(normal[n] @ [0.25, 0.4, 0.88]))
            cv2.fillConvexPoly(panel, px(points[triangles[n]]), (235 * shade, 205 * shade, 185 * shade), cv2.LINE_AA, 4)
            cv2.polylines(panel, [px(points[triangles[n]])], True, (200 * shade,) * 3, 1, cv2.LINE_AA, 4)

    def ring(face: NDArray, rings: tuple, colour: tuple, thick: int) -> None:
        for points_of in rings:
            cv2.polylines(panel, [px(face[list(points_of)])], True, colour, thick, cv2.LINE_AA, 4)

    cv2.fillPoly(panel, [px(points[list(LIP_RINGS[0])])], (205, 110, 110), cv2.LINE_AA, 4)
    cv2.fillPoly(panel, [px(points[list(LIP_RINGS[1])])], (60, 15, 20), cv2.LINE_AA, 4)
    for eye, iris in zip(LID_RINGS, parts.IRISES, strict=True):
        white = panel.copy()
        cv2.fillPoly(white, [px(points[list(eye)])], (250, 250, 250), cv2.LINE_AA, 4)
        hole = np.zeros(panel.shape[:2], np.uint8)
        cv2.fillPoly(hole, [px(points[list(eye)])], 1, cv2.LINE_8, 4)
        cv2.fillPoly(white, [px(points[list(iris[1:])])], (70, 110, 160), cv2.LINE_AA, 4)
        cv2.circle(white, tuple(px(points[iris[0]]).tolist()), 3 * 16, (10, 10, 10), -1, cv2.LINE_AA, 4)
        panel[hole > 0] = white[hole > 0]
    ring(neutral, (*LIP_RINGS[:1], *LID_RINGS, *BROW_RINGS), (140, 140, 140), 1)
    ring(points, (*LIP_RINGS, *LID_RINGS, *BROW_RINGS), (90, 20, 20), 1)
    cv2.putText(panel, title, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return panel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/rig_shapes.png"))
    args = parser.parse_args()
    rig = Rig.load()
    rig = rig.for_face(rig.neutral)
    panels = [draw(rig.neutral, rig.neutral, rig.triangles, "neutral")]
    panels += [draw(rig.neutral + s, rig.neutral, rig.triangles, n) for n, s in zip(ARKIT, rig.shapes, strict=True)]
    both = rig.neutral + rig.shapes[ARKIT.index("jawOpen")] + rig.shapes[ARKIT.index("mouthClose")]
    panels.append(draw(both, rig.neutral, rig.triangles, "jawOpen + mouthClose"))
    rows = [np.concatenate(panels[i : i + COLUMNS], 1) for i in range(0, len(panels), COLUMNS)]
    Image.fromarray(np.concatenate(rows)).quantize(64).save(args.output, optimize=True)


if __name__ == "__main__":
    main()
