"""The inspect sheet: what the program sees in a portrait, on one picture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from magictalk.face.rig import Rig
from magictalk.motion import ARKIT
from magictalk.portrait import Portrait

_PANEL, _GAP, _HEAD = 480, 16, 44
_PAPER, _INK, _FAINT, _LINE = (250, 250, 248), (30, 30, 34), (206, 206, 202), (0, 190, 120)
_AXES = (((1.0, 0, 0), (220, 60, 50)), ((0, 1.0, 0), (60, 170, 70)), ((0, 0, 1.0), (60, 100, 230)))
_BARS = 14

Picture = NDArray[np.uint8]


def inspect_sheet(portrait: Portrait) -> Picture:
    """Four panels beside one another, uint8 RGB ``[540, 2000, 3]``.

    The picture with all faces numbered from left to right; the crop around the chosen one; the same with the mesh
    and the head's axes (x red, y green, z blue, toward the viewer); the strongest coefficients of its expression.
    """
    crop, to_crop = _crop(portrait)
    height, width = portrait.image.shape[:2]
    yaw, pitch, roll = Rotation.from_rotvec(portrait.pose.rotation).as_euler("YXZ", degrees=True)
    plural = "" if len(portrait.faces) == 1 else "s"
    panels = {
        f"{width}x{height}, {len(portrait.faces)} face{plural} found": _faces(portrait),
        f"face {portrait.face.box[2]:.0f} px wide": crop,
        f"yaw {yaw:+.0f}  pitch {pitch:+.0f}  roll {roll:+.0f} degrees": _mesh(portrait, crop, to_crop),
        "its own expression": _bars(portrait.coefficients),
    }
    sheet = np.full((_HEAD + _PANEL + _GAP, _GAP + 4 * (_PANEL + _GAP), 3), _PAPER, np.uint8)
    for i, (title, panel) in enumerate(panels.items()):
        left = _GAP + i * (_PANEL + _GAP)
        _write(sheet, title, (left, _HEAD - 14), 0.6)
        sheet[_HEAD : _HEAD + _PANEL, left : left + _PANEL] = panel
    return sheet


def _write(picture: Picture, text: str, at: tuple[int, int], scale: float, colour: tuple[int, ...] = _INK) -> None:
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)


def _faces(portrait: Portrait) -> Picture:
    height, width = portrait.image.shape[:2]
    scale = _PANEL / max(height, width)
    w, h = max(1, round(width * scale)), max(1, round(height * scale))
    panel = np.full((_PANEL, _PANEL, 3), _PAPER, np.uint8)
    left, top = (_PANEL - w) // 2, (_PANEL - h) // 2
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    panel[top : top + h, left : left + w] = cv2.resize(portrait.image, (w, h), interpolation=how)
    for number, face in enumerate(portrait.faces, 1):
        colour = _LINE if face is portrait.face else (235, 150, 40)
        x, y, bw, bh = (round(v * scale) for v in face.box)
        x, y = x + left, y + top
        cv2.rectangle(panel, (x, y), (x + bw, y + bh), colour, 2, cv2.LINE_AA)
        plate = max(0, min(x, _PANEL - 24)), max(0, y - 24)
        cv2.rectangle(panel, plate, (plate[0] + 12 + 12 * len(str(number)), plate[1] + 24), colour, cv2.FILLED)
        _write(panel, str(number), (plate[0] + 6, plate[1] + 18), 0.6, (255, 255, 255))
    return panel


def _crop(portrait: Portrait) -> tuple[Picture, NDArray[np.float64]]:
    """A square 1.7 times the face, and the affine map ``[2, 3]`` from picture to crop."""
    x, y, w, h = portrait.face.box
    scale = _PANEL / (1.7 * max(w, h))
    to_crop = np.array([[scale, 0, _PANEL / 2 - scale * (x + w / 2)], [0, scale, _PANEL / 2 - scale * (y + h / 2)]])
    image = portrait.image
    if scale < 0.5:  # warpAffine has no area filter: shrink first
        size = round(image.shape[1] * scale), round(image.shape[0] * scale)
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        shift = np.array([[1, 0, to_crop[0, 2]], [0, 1, to_crop[1, 2]]])
    else:
        shift = to_crop
    crop = cv2.warpAffine(image, shift, (_PANEL, _PANEL), flags=cv2.INTER_CUBIC, borderValue=_PAPER)
    return np.asarray(crop, np.uint8), to_crop


def _mesh(portrait: Portrait, crop: Picture, to_crop: NDArray[np.float64]) -> Picture:
    def place(points: NDArray[np.floating]) -> NDArray[np.int32]:
        return np.asarray(np.round((points @ to_crop[:, :2].T + to_crop[:, 2]) * 8), np.int32)  # eighths of a pixel

    panel = crop.copy()
    triangles = Rig.load().triangles
    edges = np.unique(np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), 1), axis=0)
    points = place(portrait.landmarks[:, :2])
    cv2.polylines(panel, list(points[edges][:, :, None]), False, _LINE, 1, cv2.LINE_AA, 3)
    panel = np.asarray(cv2.addWeighted(panel, 0.6, crop, 0.4, 0), np.uint8)
    for first in (468, 473):
        cv2.polylines(panel, [points[first + 1 : first + 5]], True, (255, 220, 0), 1, cv2.LINE_AA, 3)
    origin = place(portrait.pose.to_image(np.zeros(3)))
    for axis, colour in _AXES:
        tip = place(portrait.pose.to_image(np.array(axis)))
        cv2.line(panel, origin.tolist(), tip.tolist(), colour, 2, cv2.LINE_AA, 3)
    return panel


def _bars(coefficients: NDArray[np.float32]) -> Picture:
    panel = np.full((_PANEL, _PANEL, 3), _PAPER, np.uint8)
    step = _PANEL // _BARS
    for row, i in enumerate(np.argsort(-coefficients, kind="stable")[:_BARS]):
        top, value = row * step + 6, float(coefficients[i])
        _write(panel, ARKIT[i], (4, top + 16), 0.5)
        cv2.rectangle(panel, (190, top), (_PANEL - 60, top + 20), _FAINT, cv2.FILLED)
        cv2.rectangle(panel, (190, top), (190 + round(value * (_PANEL - 250)), top + 20), _LINE, cv2.FILLED)
        _write(panel, f"{value:.2f}", (_PANEL - 50, top + 16), 0.5)
    return panel
