"""Eyes: an eyeball that stays put while the lids slide over it, and an iris that turns."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from magictalk.render.masks import affine_from, box_around, inner_mask, invert, paste
from magictalk.render.surface import EYE_CONTOURS, Frame, Surface, smoothstep

IRISES = ((468, 469, 470, 471, 472), (473, 474, 475, 476, 477))
"""Iris points of each eye, centre first."""


class Eye:
    """One eye of a portrait.

    Args:
        picture: uint8 ``[H, W, 3]`` at output size.
        surface: the portrait's surface.
        side: 0 for the eye on the picture's left, 1 for the right.
    """

    def __init__(self, picture: NDArray[np.uint8], surface: Surface, side: int) -> None:
        self.surface = surface
        self.contour, self.iris = list(EYE_CONTOURS[side]), list(IRISES[side])
        lids = surface.source[self.contour]
        self.width = float(np.linalg.norm(lids[0] - lids[8]))
        self.feather = 0.025 * self.width
        self.centre = surface.rest[self.contour].mean(0)
        self.weight = float(surface.weight[self.contour].mean())
        self.iris_px = surface.source[self.iris[0]].astype(np.float64)
        ring = surface.source[self.iris[1:]]
        self.radius = float(np.linalg.norm(ring - self.iris_px, axis=1).mean())
        size = (picture.shape[1], picture.shape[0])
        self.box = box_around(lids, 0.35 * self.width, size)
        self.size = size
        left, top, right, bottom = self.box
        crop = picture[top:bottom, left:right]
        # what the lids hide: carry the white and the iris on past them
        seen = inner_mask(lids, self.box, self.feather)
        self.texture = cv2.inpaint(np.ascontiguousarray(crop), (seen < 0.6).astype(np.uint8), 3, cv2.INPAINT_TELEA)
        keep = smoothstep(0.6, 1.0, seen)[..., None]
        self.texture = (crop * keep + self.texture * (1 - keep) + 0.5).astype(np.uint8)

    def draw(self, canvas: NDArray[np.uint8], frame: Frame) -> None:
        """Paint the eyeball between the lids, in place."""
        lids = frame.vertices[self.contour]
        box = box_around(lids, 2 * self.feather + 1, self.size)
        left, top, right, bottom = box
        if right - left < 2 or bottom - top < 2:
            return
        corners = self.centre + np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0]])
        before = self.surface.project(corners).astype(np.float64)
        after = before + self.weight * (self.surface.carry(frame, corners) - before)
        move = affine_from(before, after)
        back = invert(move)
        # gaze: how far the iris is from where the skull alone would put it, in picture pixels
        gaze = back[:, :2] @ (frame.vertices[self.iris[0]] - (move[:, :2] @ self.iris_px + move[:, 2]))
        gaze *= min(1.0, 0.9 * self.radius / max(1e-6, float(np.linalg.norm(gaze))))
        x, y = np.meshgrid(np.arange(left, right, dtype=np.float32), np.arange(top, bottom, dtype=np.float32))
        sx = back[0, 0] * x + back[0, 1] * y + back[0, 2]
        sy = back[1, 0] * x + back[1, 1] * y + back[1, 2]
        iris_x, iris_y = self.iris_px + gaze
        pull = 1 - smoothstep(1.0, 2.6, np.hypot(sx - iris_x, sy - iris_y) / self.radius)
        at_x = (sx - gaze[0] * pull - self.box[0]).astype(np.float32)
        at_y = (sy - gaze[1] * pull - self.box[1]).astype(np.float32)
        ball = cv2.remap(self.texture, at_x, at_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        paste(canvas, box, ball.astype(np.float32), inner_mask(lids, box, self.feather))
