"""Strangers out of the few people there are: pieces of clips mirrored, bent, and in colours slightly off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from magictalk.face.rig import Rig
from magictalk.motion import ARKIT
from magictalk.train.autoencoder import recoloured
from magictalk.train.pictures import Clip
from magictalk.train.sequences import mirror

Recognise = Callable[[NDArray[np.uint8], NDArray[np.float32]], NDArray[np.float32]]
"""A picture ``[S, S, 3]`` and a mesh ``[478, 3]`` in it to the embedding ``[128]`` of who is seen."""

PIECE = 48
"""Frames of a clip that a stranger takes."""
BEND = 0.018
"""Standard deviation of how far a place is moved, in sides of the picture."""
STRETCH = 0.07
"""The same of the two axes' logarithmic scales."""


def stranger(
    clip: Clip, person: NDArray[np.float32], recognise: Recognise, rng: np.random.Generator
) -> tuple[Clip, NDArray[np.float32]]:
    """A piece of a clip that shows somebody else, and how much each of its pixels is the person.

    The same bend holds for all frames of the piece, so the stranger moves as people do.

    Args:
        clip: of somebody known.
        person: 0..1, ``[T, S, S]``.
        recognise: tells who the stranger is.
        rng: draws who it becomes.
    """
    length = min(PIECE, len(clip))
    first = int(rng.integers(len(clip) - length + 1))
    here, side = slice(first, first + length), clip.frames.shape[1]
    frames, points, person, contour = clip.frames[here], clip.points[here], person[here], clip.contour
    heads = None if clip.heads is None else clip.heads[here]
    motion, heard = (None if part is None else part[here] for part in (clip.motion, clip.heard))
    if rng.random() < 0.5:
        frames, person, contour = frames[:, :, ::-1], person[:, :, ::-1], contour[:, ::-1]
        heads = None if heads is None else heads[:, :, ::-1]
        motion = None if motion is None else mirror(motion)
        points = points[:, opposite()] * np.array([-1, 1], np.float32) + np.array([side - 1, 0], np.float32)
    field = bend(side, rng)
    colour = int(rng.integers(2**32))  # of all frames
    pictures = np.stack([_off(bent(frame, field), np.random.default_rng(colour)) for frame in frames])
    meshes = np.stack([moved(mesh, field) for mesh in points])
    seen = clip.seen[here]
    t = int(np.argmax(seen))
    face = recognise(pictures[t], np.concatenate([meshes[t], np.zeros((len(meshes[t]), 1), np.float32)], 1))
    heads = None if heads is None else np.stack([bent(head, field) for head in heads])
    made = replace(
        clip, frames=pictures, points=meshes, seen=seen, contour=bent(contour, field), face=face, heads=heads,
        motion=motion, heard=heard,
    )  # fmt: skip
    return made, np.stack([bent(mask, field) for mask in person])


def _off(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Colours slightly off: names of hair and light still hold."""
    made = recoloured(picture.astype(np.float32) / 127.5 - 1, rng, mixed=0.04, lit=0.1)
    return ((made + 1) * 127.5).round().astype(np.uint8)


def bend(side: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """By how many pixels from it each place of a picture gets what it shows, ``[S, S, 2]``.

    Smooth, the same left and right as faces are, and stretched.
    """
    waves = rng.normal(0, BEND * side, (4, 4, 2)).astype(np.float32)
    waves = (waves + waves[:, ::-1] * np.array([-1, 1], np.float32)) / np.float32(2**0.5)
    smooth = np.asarray(cv2.resize(waves, (side, side), interpolation=cv2.INTER_CUBIC), np.float32)
    centre = (side - 1) / 2
    away = _grid(side) - np.float32(centre)
    return smooth + away * np.expm1(rng.normal(0, STRETCH, 2)).astype(np.float32)


def bent(picture: NDArray[Any], field: NDArray[np.float32]) -> NDArray[Any]:
    """A picture ``[S, S, ...]`` whose places show what ``field [S, S, 2]`` says, in pixels from them."""
    places = _grid(len(field)) + field
    taken = np.ascontiguousarray(picture)
    return np.asarray(cv2.remap(taken, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101))


def moved(points: NDArray[np.float32], field: NDArray[np.float32]) -> NDArray[np.float32]:
    """Where points ``[N, 2]`` px of a picture are in the bent one: q with q + field(q) = p, by fixed-point steps."""
    found = points.astype(np.float32)
    for _ in range(20):
        here = np.ascontiguousarray(found[None])
        found = points - cv2.remap(field, here, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]
    return found


@cache
def opposite() -> NDArray[np.intp]:
    """For each point of the mesh ``[478]`` its counterpart on the other half of the face."""
    rig = Rig.load()
    open_mouth = np.eye(len(ARKIT))[ARKIT.index("jawOpen")]  # lips that touch could not be told apart
    face = rig.vertices(open_mouth).astype(np.float64)
    return np.asarray(linear_sum_assignment(cdist(face, face * [-1, 1, 1]))[1])


def _grid(side: int) -> NDArray[np.float32]:
    """Places ``[S, S, 2]`` of a picture's pixels, x first."""
    return np.stack(np.meshgrid(*(np.arange(side, dtype=np.float32),) * 2), -1)
