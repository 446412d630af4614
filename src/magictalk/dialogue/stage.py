"""The stage: portraits cut to fit each other, and where they are seen: side by side, or one at a time in shots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from magictalk.dialogue.turns import Turn
from magictalk.errors import OptionError
from magictalk.face.landmarks import Face
from magictalk.motion import FPS
from magictalk.portrait import Portrait

if TYPE_CHECKING:
    from magictalk.render.rig import RigRender

Layout = Literal["side-by-side", "shots"]
HEIGHTS = 128, 2160
SHORTEST_SHOT, LONGEST_SHORTEST = 1.0, 3600.0
"""Seconds that a shot lasts at least: unless told otherwise, and at most."""

_PANEL_ASPECT = 0.8
_SHOT_ASPECTS = 0.8, 16 / 9
_HEAD_ROOM = 2.3
"""Height of the picture in heights of the face, where there is that much of it: head and shoulders."""
_CLOSEST = 1.7
"""A picture with less around the face than this is no reason to come as close to the others."""
_FACE_AT = 0.47
"""Height of the face's middle, from the top."""
_CUT_AHEAD = 4
"""Frames by which a cut comes before the voice."""

Pose = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Coefficients ``[52]`` and head motion ``[6]`` of one frame."""


class Stage(Protocol):
    """Draws the frames of a dialogue.

    Attributes:
        frame_size: ``(width, height)`` in pixels, both even.
    """

    frame_size: tuple[int, int]

    def draw(self, poses: Sequence[Pose], number: int) -> NDArray[np.uint8]:
        """Frame ``number`` with the characters in these poses, uint8 RGB ``[H, W, 3]``."""
        ...


def frame_portraits(portraits: Sequence[Portrait], layout: Layout, height: int) -> list[Portrait]:
    """The portraits cut around their heads and scaled: all of one size, with heads of one size where possible.

    Args:
        portraits: as they were opened.
        layout: panels of a row are upright; shots are as wide as the narrowest picture allows, up to 16:9.
        height: of the cut pictures, pixels.

    Raises:
        OptionError: when the height is odd or out of range.
    """
    if not HEIGHTS[0] <= height <= HEIGHTS[1] or height % 2:
        raise OptionError(f"height is {height}; expected an even number of pixels from {HEIGHTS[0]} to {HEIGHTS[1]}")
    aspect = _PANEL_ASPECT
    if layout == "shots":
        aspect = float(np.clip(min(_widest(p) for p in portraits), *_SHOT_ASPECTS))
    width = 2 * round(height * aspect / 2)
    rooms = [_room(p, width / height) for p in portraits]
    shared = max(_CLOSEST, min(_HEAD_ROOM, *rooms))
    return [_cut(p, min(shared, room), (width, height)) for p, room in zip(portraits, rooms, strict=True)]


class SideBySide:
    """Everybody in a row, in the script's order.

    Args:
        portraits: of one size.
    """

    def __init__(self, portraits: Sequence[Portrait]) -> None:
        self._renders = _renders(portraits)
        height, width = portraits[0].image.shape[:2]
        gap = max(2, 2 * round(height / 128))
        self._step = width + gap
        self.frame_size = len(portraits) * self._step - gap, height

    def draw(self, poses: Sequence[Pose], number: int) -> NDArray[np.uint8]:
        """See :class:`Stage`."""
        width, height = self.frame_size
        frame = np.zeros((height, width, 3), np.uint8)
        for place, (render, pose) in enumerate(zip(self._renders, poses, strict=True)):
            panel = render.draw(*pose)
            frame[:, place * self._step :][:, : panel.shape[1]] = panel
        return frame


class Shots:
    """Whoever speaks fills the frame.

    Args:
        portraits: of one size.
        cuts: who is seen from when on, see :func:`cuts_of`.
    """

    def __init__(self, portraits: Sequence[Portrait], cuts: Sequence[Cut]) -> None:
        self._renders = _renders(portraits)
        self._starts, self._seen = [c.start for c in cuts], [c.place for c in cuts]
        height, width = portraits[0].image.shape[:2]
        self.frame_size = width, height

    def draw(self, poses: Sequence[Pose], number: int) -> NDArray[np.uint8]:
        """See :class:`Stage`; only who is seen is drawn."""
        place = self._seen[int(np.searchsorted(self._starts, number, "right")) - 1]
        return self._renders[place].draw(*poses[place])


@dataclass(frozen=True)
class Cut:
    """From frame ``start`` on the character at ``place`` of the cast is seen."""

    start: int
    place: int


def cuts_of(turns: Sequence[Turn], names: Sequence[str], shortest: float = SHORTEST_SHOT) -> list[Cut]:
    """Cut to who speaks, a moment before they do.

    Args:
        turns: in order.
        names: of the characters, in the order of their portraits.
        shortest: seconds that a shot lasts at least: a cut waits for it, and is left out when half the line is over
            by then.

    Raises:
        OptionError: when ``shortest`` is out of range.
    """
    if not 0 <= shortest <= LONGEST_SHORTEST:
        raise OptionError(f"shortest shot is {shortest} s; expected 0 to {LONGEST_SHORTEST:g}")
    cuts = [Cut(0, names.index(turns[0].who))]
    for before, turn in pairwise(turns):
        place = names.index(turn.who)
        start = max(turn.start - _CUT_AHEAD, before.end, cuts[-1].start + round(shortest * FPS))
        if place != cuts[-1].place and start < turn.start + turn.frames / 2:
            cuts.append(Cut(start, place))
    return cuts


def _renders(portraits: Sequence[Portrait]) -> list[RigRender]:
    from magictalk.render.rig import RigRender

    return [RigRender(portrait) for portrait in portraits]


def _room(portrait: Portrait, aspect: float) -> float:
    """Height of the largest part of this aspect that the picture has, in heights of the face."""
    height, width = portrait.image.shape[:2]
    return min(height, width / aspect) / portrait.face.box[3]


def _widest(portrait: Portrait) -> float:
    """Aspect of the widest part of the picture that still shows head and shoulders."""
    height, width = portrait.image.shape[:2]
    return width / min(height, _HEAD_ROOM * portrait.face.box[3])


def _cut(portrait: Portrait, room: float, size: tuple[int, int]) -> Portrait:
    """The part around the head, ``room`` heights of the face high, at a size ``(width, height)``."""
    (height, width), (x, y, w, h) = portrait.image.shape[:2], portrait.face.box
    scale = size[1] / (room * h)
    part = np.minimum(np.array(size) / scale, [width, height])
    corner = np.array([x + w / 2, y + h / 2]) - part * [0.5, _FACE_AT]
    left, top = np.clip(corner, 0, [width, height] - part)
    box = (left, top, left + part[0], top + part[1])
    image = Image.fromarray(portrait.image).resize(size, Image.Resampling.LANCZOS, box=box)
    shift = np.array([left, top])
    landmarks = portrait.landmarks * np.float32(scale)
    landmarks[:, :2] -= (shift * scale).astype(np.float32)
    pose = replace(
        portrait.pose,
        origin_px=(portrait.pose.origin_px - shift) * scale,
        scale_px=portrait.pose.scale_px * scale,
        depth_px=portrait.pose.depth_px * scale,
    )
    face = Face(landmarks)
    return replace(portrait, image=np.array(image), faces=(face,), face=face, pose=pose)
