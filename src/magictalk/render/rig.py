"""The rig render: a portrait's own pixels, moved by the rig. Nothing is generated, so identity is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from magictalk.errors import OptionError
from magictalk.face.person import person_mask
from magictalk.face.rig import Rig
from magictalk.motion import Motion
from magictalk.portrait import Portrait
from magictalk.render.eyes import Eye
from magictalk.render.mouth import Mouth
from magictalk.render.surface import Frame, Surface

_MAP_PIXELS = 600_000
"""A backward map larger than this is rasterised smaller and enlarged: it is smooth, pixels are not."""
_EASY = np.array([0.22, 0.22, 0.20, 0.30, 0.30, 0.60], np.float32)
"""Head motion (radians, then inter-ocular distances) taken as it is; what lies beyond is compressed,"""
_ROOM = np.array([0.14, 0.14, 0.10, 0.25, 0.25, 0.50], np.float32)
"""by at most this much more: a single picture has no more to show."""


class RigRender:
    """Motion to frames by a backward mesh warp of the original picture.

    Args:
        portrait: who.
        size: output ``(width, height)`` in pixels, both even, of the picture's own aspect ratio within a pixel or
            two; None for the picture's own size (made even).

    Raises:
        OptionError: when the size is odd, too small or of another aspect ratio.
    """

    def __init__(self, portrait: Portrait, size: tuple[int, int] | None = None) -> None:
        from magictalk.render.raster import rasterise  # numba: half a second

        height, width = portrait.image.shape[:2]
        self.frame_size = size or (width + width % 2, height + height % 2)
        self.picture, scale = _fit_picture(portrait.image, self.frame_size)
        rig = Rig.load().for_face(portrait.neutral)
        self.surface = Surface(portrait, scale, self.frame_size, person_mask(portrait.image), rig)
        self.eyes = [Eye(self.picture, self.surface, side) for side in (0, 1)]
        self.mouth = Mouth(self.picture, self.surface, portrait.neutral, rig.shapes)
        self._skin = self.mouth.closed(self.picture)
        self._rasterise = rasterise
        edge = self.surface.source[self.surface.weight > 0]
        low, high = (
            np.floor(edge.min(0) - 0.5 * self.surface.scale_px),
            np.ceil(edge.max(0) + 0.5 * self.surface.scale_px),
        )
        left, top = (int(max(0, v)) for v in low)
        right, bottom = int(min(self.frame_size[0], high[0])), int(min(self.frame_size[1], high[1]))
        self.box = left, top, right, bottom
        self._shrink = max(1.0, float(np.sqrt((right - left) * (bottom - top) / _MAP_PIXELS)))
        w, h = (max(2, int(np.ceil(n / self._shrink))) for n in (right - left, bottom - top))
        x = (np.arange(w, dtype=np.float32) + 0.5) * ((right - left) / w) - 0.5 + left
        y = (np.arange(h, dtype=np.float32) + 0.5) * ((bottom - top) / h) - 0.5 + top
        self._identity = np.stack(np.meshgrid(x, y), -1)
        self._to_map = np.array([w / (right - left), h / (bottom - top)], np.float32)
        self._map, self._nearest = np.empty_like(self._identity), np.empty((h, w), np.float32)

    def __call__(self, motions: Iterable[Motion]) -> Iterator[NDArray[np.uint8]]:
        """Frames ``[H, W, 3]`` uint8 RGB, one for each frame of motion (25 fps motion gives 25 fps video)."""
        for motion in motions:
            for coefficients, head in zip(motion.coefficients, motion.head, strict=True):
                yield self.draw(coefficients, head)

    def pose(self, coefficients: NDArray[np.float32], head: NDArray[np.float32]) -> Frame:
        """Where everything is in that frame."""
        return self.surface.pose(coefficients, _within_reach(head))

    def draw(self, coefficients: NDArray[np.float32], head: NDArray[np.float32]) -> NDArray[np.uint8]:
        """One frame: coefficients ``[52]`` and relative head pose ``[6]`` to ``[H, W, 3]`` uint8 RGB."""
        frame = self.pose(coefficients, head)
        left, top, right, bottom = self.box
        self._map[:] = self._identity
        self._nearest.fill(-np.inf)
        target = (frame.vertices - [left, top] + 0.5) * self._to_map - 0.5
        self._rasterise(
            target.astype(np.float32),
            frame.depth,
            self.surface.source,
            self.surface.triangles,
            self._map,
            self._nearest,
        )
        full = self._map
        if self._shrink > 1:
            full = cv2.resize(full, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
        canvas = self.picture.copy()
        cv2.remap(
            self._skin, full, None, cv2.INTER_CUBIC, canvas[top:bottom, left:right], borderMode=cv2.BORDER_REPLICATE
        )  # fmt: skip
        for eye in self.eyes:
            eye.draw(canvas, frame)
        self.mouth.draw(canvas, frame, coefficients)
        return canvas


def _fit_picture(image: NDArray[np.uint8], size: tuple[int, int]) -> tuple[NDArray[np.uint8], float]:
    """The picture at the output size, and output pixels per picture pixel. Odd sides grow by a repeated edge."""
    height, width = image.shape[:2]
    if min(size) < 16 or size[0] % 2 or size[1] % 2:
        raise OptionError(f"output size is {size[0]}x{size[1]}; both sides must be even and at least 16")
    scale = max(size) / max(width, height) if max(size) - max(width, height) != 1 else 1.0
    if abs(width * scale - size[0]) > 2 or abs(height * scale - size[1]) > 2:
        raise OptionError(f"output size is {size[0]}x{size[1]}, the picture {width}x{height}; keep its aspect ratio")
    if scale != 1:
        shrink = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        scaled = (min(size[0], round(width * scale)), min(size[1], round(height * scale)))
        image = cv2.resize(image, scaled, interpolation=shrink)
        height, width = image.shape[:2]
    image = cv2.copyMakeBorder(image, 0, size[1] - height, 0, size[0] - width, cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(image), scale


def _within_reach(head: NDArray[np.float32]) -> NDArray[np.float32]:
    """Head motion compressed softly into what one picture can show (about 20 degrees)."""
    beyond = np.maximum(np.abs(head) - _EASY, 0)
    return (np.sign(head) * (np.minimum(np.abs(head), _EASY) + _ROOM * np.tanh(beyond / _ROOM))).astype(np.float32)
