"""What is behind the lips: teeth that keep to the skull, a lower row and tongue that follow the jaw, shade.

A portrait that shows its own teeth keeps them; the rest is drawn (``assets/mouth``) in the light of the face.
"""

from __future__ import annotations

import json
from importlib.resources import files

import cv2
import numpy as np
from numpy.typing import NDArray

from magictalk.motion import ARKIT
from magictalk.render.masks import Box, affine_from, box_around, inner_mask, invert, paste
from magictalk.render.surface import EYE_CONTOURS, Frame, Surface, smoothstep

INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
"""Inner contour of the lips: right corner, along the upper lip to the left corner, back along the lower."""
_JAW = [i for i, name in enumerate(ARKIT) if name.startswith("jaw")]
_CHIN = (152, 175, 199, 200)
_ENAMEL = np.array([225.0, 218.0, 203.0], np.float32)
_SEAM = np.array([0.50, 0.62, 0.62], np.float32)
_CAVITY = np.array([34.0, 12.0, 12.0], np.float32)
_TEETH_DROP = 0.82
"""The lower teeth drop a little less than the skin of the chin."""
_TONGUE_DROP = 0.55
_EDGE = -0.06
"""The upper teeth end about 4 mm below the line where the lips meet."""
_CANONICAL_WIDTH = 0.83
"""Mouth width of the canonical face in inter-ocular distances; the drawn teeth fit it."""


def _sprite(name: str, scale: float) -> NDArray[np.float32]:
    """A drawn part at ``scale``, float32 ``[h, w, 4]``, colour premultiplied by alpha (0..1)."""
    raw = np.frombuffer((files("magictalk") / "assets" / "mouth" / f"{name}.png").read_bytes(), np.uint8)
    bgra = cv2.imdecode(raw, cv2.IMREAD_UNCHANGED).astype(np.float32)
    alpha = bgra[..., 3:] / 255
    drawn = np.concatenate([bgra[..., 2::-1] * alpha, alpha], -1)
    return cv2.resize(drawn, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def light_of(picture: NDArray[np.uint8], surface: Surface) -> NDArray[np.float32]:
    """Colour of the light on the face, ``[3]``, 1 for a neutral full light: read off the whites of the eyes."""
    estimates = []
    for contour in EYE_CONTOURS:
        lids = surface.source[list(contour)]
        box = box_around(lids, 1, (picture.shape[1], picture.shape[0]))
        left, top, right, bottom = box
        if right - left < 4 or bottom - top < 3:
            continue
        inside = inner_mask(lids, box, 0.02 * float(np.ptp(lids[:, 0]))) > 0.5
        pixels = picture[top:bottom, left:right][inside].astype(np.float32)
        if len(pixels) >= 8:
            bright = pixels[pixels.sum(1) >= np.percentile(pixels.sum(1), 75)]
            estimates.append(np.median(bright, 0))
    cheeks = surface.source[[50, 280, 205, 425]].round().astype(int)
    cheeks = cheeks[(cheeks >= 0).all(1) & (cheeks < [picture.shape[1], picture.shape[0]]).all(1)]
    skin = picture[cheeks[:, 1], cheeks[:, 0]].astype(np.float32).mean(0) if len(cheeks) else np.full(3, 140.0)
    white = np.mean(estimates, 0) if estimates else skin
    # whites lie in the shade of the lids: lift them a little, and never below the skin's own brightness
    white = white * max(1.0, float(skin.mean()) * 1.12 / max(1.0, float(white.mean()))) * 1.05
    grey = white.mean()
    return np.clip((0.8 * white + 0.2 * grey) / 235, 0.12, 1.1).astype(np.float32)


class Mouth:
    """The mouth of a portrait.

    Args:
        picture: uint8 ``[H, W, 3]`` at output size.
        surface: the portrait's surface.
        neutral: float ``[478, 3]`` the face with no expression, face space.
        shapes: float32 ``[52, 478, 3]`` blendshapes, face space.
    """

    def __init__(
        self,
        picture: NDArray[np.uint8],
        surface: Surface,
        neutral: NDArray[np.float32],
        shapes: NDArray[np.float32],
    ) -> None:
        self.surface, self.size = surface, (picture.shape[1], picture.shape[0])
        layout = json.loads((files("magictalk") / "assets" / "mouth" / "config.json").read_text())
        self._unit, self._anchor_px = float(layout["pixels_per_iod"]), np.array(layout["anchor_px"])
        # warpAffine does not filter: bring the drawings near the output's scale once
        shrink = min(1.0, surface.scale_px / self._unit)
        self._unit, self._anchor_px = self._unit * shrink, self._anchor_px * shrink
        self._sprites = {name: _sprite(name, shrink) for name in ("upper", "lower", "tongue")}
        self._jaw = _TEETH_DROP * shapes[_JAW][:, list(_CHIN)].mean(1)  # [4, 3] drop of the lower teeth, face space
        self._own_jaw = surface.own[_JAW] @ self._jaw
        lip_width = float(np.linalg.norm(neutral[61] - neutral[291]))
        self._fit = float(np.clip(lip_width / _CANONICAL_WIDTH, 0.75, 1.25))
        closed = (neutral[13] + neutral[14]) / 2
        self._anchor = np.array([closed[0], closed[1] + _EDGE, neutral[13, 2] - 0.13])
        self._weight = float(surface.weight[list(INNER_LIPS)].mean())
        self._light = light_of(picture, surface)
        lips = surface.source[list(INNER_LIPS)]
        self.width_px = max(4.0, float(np.linalg.norm(surface.source[61] - surface.source[291])))
        self.feather = 0.010 * self.width_px
        self.own_gap = self._gap(surface.source)
        # the mesh's lips end a little early: the rim of an open mouth still shows teeth
        self._rim = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * int(np.ceil(0.022 * self.width_px)) + 1,) * 2)
        self._own: tuple[Box, NDArray[np.float32], NDArray[np.float32]] | None = None
        if self.own_gap > 0.06:
            self._own = self._take_own(picture, lips)
        self._to_offset = invert(self._place_rest())  # picture pixel -> offset around the anchor

    def closed(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture to warp: an open mouth is filled with lip, so that lips that close meet."""
        if self._own is None:
            return picture
        lips = self.surface.source[list(INNER_LIPS)]
        box = box_around(lips, 0.12 * self.width_px, self.size)
        left, top, right, bottom = box
        inside = inner_mask(lips, box, self.feather)
        wide = cv2.dilate(inside, self._rim)
        crop = np.ascontiguousarray(picture[top:bottom, left:right])
        filled = cv2.inpaint(crop, (wide > 0.02).astype(np.uint8), 3, cv2.INPAINT_TELEA).astype(np.float32)
        mixed = crop + (filled - crop) * wide[..., None]
        result = picture.copy()
        result[top:bottom, left:right] = np.clip(mixed + 0.5, 0, 255).astype(np.uint8)
        return result

    def _gap(self, vertices: NDArray[np.float32]) -> float:
        """Opening of the lips over the mouth's resting width in the picture."""
        pairs = np.array([(82, 87), (13, 14), (312, 317)])
        return float(np.linalg.norm(vertices[pairs[:, 0]] - vertices[pairs[:, 1]], axis=1).mean()) / self.width_px

    def _take_own(
        self, picture: NDArray[np.uint8], lips: NDArray[np.float32]
    ) -> tuple[Box, NDArray[np.float32], NDArray[np.float32]] | None:
        """Cut the portrait's own mouth into what hangs from the skull (upper teeth) and what follows the jaw.

        None when the opening is too small in pixels to show anything.
        """
        box = box_around(lips, 0.12 * self.width_px, self.size)
        left, top, right, bottom = box
        crop = picture[top:bottom, left:right].astype(np.float32)
        inside = inner_mask(lips, box, self.feather)
        hole = inside > 0.5
        if not hole.any():
            return None
        value = crop.max(-1)
        dark = np.percentile(value[hole], 10)
        # enamel is the bright, pale part; lips, gums and tongue are redder
        pale = crop[..., 1:].mean(-1) / np.maximum(1.0, crop[..., 0])
        threshold = max(60.0, 0.45 * np.percentile(value[hole], 90) + 0.55 * dark)
        enamel = ((value > threshold) & (pale > 0.62) & (inside > 0.3)).astype(np.uint8)
        count, label, stats, _ = cv2.connectedComponentsWithStats(enamel)
        middle = float(lips[:, 1].mean()) - top
        upper = np.zeros(inside.shape, np.float32)
        for k in range(1, count):
            centre_y = stats[k, cv2.CC_STAT_TOP] + stats[k, cv2.CC_STAT_HEIGHT] / 2
            big = stats[k, cv2.CC_STAT_AREA] > 0.06 * hole.sum()
            if big and (centre_y < middle + 0.06 * self.width_px):
                upper[label == k] = 1
        if upper.sum() < 0.08 * hole.sum():
            upper[:] = 0
        else:
            self._light = np.clip(np.median(crop[upper > 0], 0) / _ENAMEL, 0.1, 1.15).astype(np.float32)
            # all that lies above the teeth's lower edge, column by column, hangs from the skull too
            rows = np.arange(upper.shape[0])[:, None]
            lowest = np.where(upper > 0, rows, -1).max(0).astype(np.float32)
            bottom_row = np.where(hole, rows, -1).max(0)
            # a sliver of shade between the teeth and the lower lip is no gap
            sliver = (bottom_row - lowest) < 0.3 * hole.sum(0) + 1
            lowest = np.where((lowest >= 0) & sliver, np.maximum(lowest, bottom_row + 0.1 * self.width_px), lowest)
            known = np.flatnonzero(lowest >= 0)
            lowest = np.interp(np.arange(len(lowest)), known, lowest[known]).astype(np.float32)
            lowest = cv2.GaussianBlur(lowest[None], (0, 0), max(1.0, 0.015 * self.width_px))[0]
            column = int(np.clip(lips[[5, 15], 0].mean() - left, 0, len(lowest) - 1))
            edge = invert(self._place_rest()) @ [left + column, top + lowest[column] + 1, 1]
            self._anchor[1] += float(np.clip(edge[1], -0.15, 0.15))  # drawn teeth continue the portrait's own
            upper = (np.clip((lowest[None] + 1 - rows) / max(1.0, self.feather), 0, 1)).astype(np.float32)
        # lips that part wider than in the picture show what the picture does not: carry its edge on
        hidden = (inside < 0.5).astype(np.uint8)
        wide = cv2.inpaint(crop.astype(np.uint8), hidden, 3, cv2.INPAINT_TELEA).astype(np.float32)
        keep = smoothstep(0.5, 1.0, inside)[..., None]
        wide = crop * keep + wide * (1 - keep)
        reach = cv2.GaussianBlur(
            cv2.dilate(hole.astype(np.float32), np.ones((3, 3)), iterations=int(0.05 * self.width_px)),
            (0, 0), max(0.8, 0.02 * self.width_px),
        )  # fmt: skip
        hang, follow = upper * reach, (1 - upper) * reach
        return (
            box,
            np.concatenate([wide * hang[..., None], hang[..., None]], -1).astype(np.float32),
            np.concatenate([wide * follow[..., None], follow[..., None]], -1).astype(np.float32),
        )

    def _place(self, frame: Frame, shift: NDArray[np.float32]) -> NDArray[np.float64]:
        """Affine ``[2, 3]`` from face-space offsets ``(x, y)`` around the anchor to output pixels."""
        corners = self._anchor + shift + np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]])
        camera = corners @ self.surface.turn.T
        still = self.surface.project(camera)
        moved = still + self._weight * (self.surface.carry(frame, camera) - still)
        return affine_from(np.array([[0.0, 0], [1, 0], [0, 1]]), moved.astype(np.float64))

    def draw(self, canvas: NDArray[np.uint8], frame: Frame, coefficients: NDArray[np.float32]) -> None:
        """Paint the inside of the mouth between the lips, in place."""
        lips = frame.vertices[list(INNER_LIPS)]
        gap = self._gap(frame.vertices)
        if self._own is not None:
            self._draw_seam(canvas, lips, 1 - float(smoothstep(0.05, 0.14, gap)))
        if gap < 0.008:
            return
        box = box_around(lips, 0.04 * self.width_px + 2, self.size)
        left, top, right, bottom = box
        if right - left < 2 or bottom - top < 2:
            return
        mask = inner_mask(lips, box, self.feather)
        jaw = coefficients[_JAW] @ self._jaw
        inside = np.empty((bottom - top, right - left, 3), np.float32)
        inside[:] = _CAVITY
        openness = float(smoothstep(0.0, 0.28, gap))
        skull, jawed = self._place(frame, np.zeros(3, np.float32)), self._place(frame, jaw)
        self._lay_sprite(inside, box, "tongue", self._place(frame, _TONGUE_DROP * jaw), 0.30 + 0.4 * openness)
        self._lay_sprite(inside, box, "lower", jawed, 0.50 + 0.45 * openness)
        self._lay_sprite(inside, box, "upper", skull, 0.72 + 0.28 * openness)
        inside *= self._light * self._shade(mask)[..., None]
        if self._own is not None:
            own_box, hang, follow = self._own
            mask += min(1.0, gap / self.own_gap) ** 2 * (cv2.dilate(mask, self._rim) - mask)
            dim = 0.5 + 0.5 * float(smoothstep(0.0, 0.6 * self.own_gap, gap))  # lips that part shade teeth
            for layer, place in ((follow, self._place(frame, jaw - self._own_jaw)), (hang, skull)):
                whole = np.vstack([place, [0, 0, 1]]) @ np.vstack([self._to_offset, [0, 0, 1]])
                self._lay(inside, box, layer, whole[:2], np.array(own_box[:2]), dim)
        else:
            # lips that part a hair's breadth still show the picture's own line between them
            mask = mask * smoothstep(0.0, 0.07, gap - self.own_gap)
        paste(canvas, box, inside, mask)

    def _draw_seam(self, canvas: NDArray[np.uint8], lips: NDArray[np.float32], strength: float) -> None:
        """The shaded line where lips meet, for a picture that never showed them closed; in place."""
        if strength <= 0:
            return
        middle = (lips[1:10] + lips[:10:-1]) / 2
        line = np.concatenate([lips[:1], middle, lips[10:11]])
        left, top, right, bottom = box_around(line, 0.03 * self.width_px + 2, self.size)
        if right - left < 2 or bottom - top < 2:
            return
        fine = 4
        mask = np.zeros(((bottom - top) * fine, (right - left) * fine), np.uint8)
        points = np.round(((line - [left, top]) * fine + (fine - 1) / 2) * 16).astype(np.int32)
        cv2.polylines(mask, [points], False, 255, max(1, round(0.014 * self.width_px * fine)), cv2.LINE_AA, 4)
        soft = cv2.resize(mask, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
        soft = cv2.GaussianBlur(soft, (0, 0), max(0.5, 0.006 * self.width_px)).astype(np.float32)[..., None] / 255
        part = canvas[top:bottom, left:right]
        part[:] = (part * (1 - strength * soft * _SEAM) + 0.5).astype(np.uint8)

    def _place_rest(self) -> NDArray[np.float64]:
        """Affine ``[2, 3]`` from offsets around the anchor to picture pixels, with no motion."""
        corners = (self._anchor + np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]])) @ self.surface.turn.T
        return affine_from(np.array([[0.0, 0], [1, 0], [0, 1]]), self.surface.project(corners).astype(np.float64))

    def _lay_sprite(
        self, inside: NDArray[np.float32], box: Box, name: str, place: NDArray[np.float64], brightness: float
    ) -> None:
        unit = self._unit / self._fit
        to_offset = np.array([[1 / unit, 0, -self._anchor_px[0] / unit], [0, -1 / unit, self._anchor_px[1] / unit]])
        whole = np.vstack([place, [0, 0, 1]]) @ np.vstack([to_offset, [0, 0, 1]])
        self._lay(inside, box, self._sprites[name], whole[:2], np.zeros(2), brightness)

    @staticmethod
    def _lay(
        inside: NDArray[np.float32],
        box: Box,
        layer: NDArray[np.float32],
        affine: NDArray[np.float64],
        origin: NDArray[np.float64],
        brightness: float,
    ) -> None:
        """Lay a premultiplied RGBA layer over ``inside``; ``affine`` maps layer pixels (+ origin) to output pixels."""
        affine = affine.copy()
        affine[:, 2] += affine[:, :2] @ origin - box[:2]
        size = (inside.shape[1], inside.shape[0])
        warped = cv2.warpAffine(layer, affine, size, flags=cv2.INTER_LINEAR)
        inside *= 1 - warped[..., 3:]
        inside += warped[..., :3] * brightness

    def _shade(self, mask: NDArray[np.float32]) -> NDArray[np.float32]:
        """Darker near the lips, most under the upper one."""
        spread = max(1.0, 0.055 * self.width_px)
        drop = np.array([[1, 0, 0], [0, 1, 0.8 * spread]], np.float64)
        below = cv2.warpAffine(mask, drop, (mask.shape[1], mask.shape[0]))
        soft = cv2.GaussianBlur(0.5 * mask + 0.5 * below, (0, 0), spread)
        return 0.45 + 0.55 * smoothstep(0.15, 0.85, soft)
