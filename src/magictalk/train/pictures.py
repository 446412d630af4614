"""Clips as pictures: what networks that generate pixels learn from.

Only clips whose licence allows it: a weight can remember a face, so nobody is taught who never agreed to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from magictalk.data.dataset import Dataset, Sample
from magictalk.errors import DatasetError
from magictalk.face.contour import contour
from magictalk.face.person import PersonSegmenter
from magictalk.render.diffusion.caption import smile_of
from magictalk.train.lips import kind_of
from magictalk.train.sequences import around_mean, centre_gaze
from magictalk.train.variational import hear

LICENCES = "open", "noncommercial"
"""Classes of licence whose pixels may be learnt."""
MOST_OF_ONE = 60
"""Clips that are taken of the speaker of whom there are hundreds."""


@dataclass(frozen=True)
class Clip:
    """A clip of ``T`` frames, made small.

    Attributes:
        name: its key.
        kind: ``"one"`` or ``"people"``, as in :func:`magictalk.train.lips.kind_of`.
        split: of the dataset.
        frames: uint8 ``[T, S, S, 3]``.
        points: float32 ``[T, 478, 2]``, the mesh in pixels of these frames.
        seen: bool ``[T]``.
        contour: uint8 ``[S, S]``, edges of head and face, 0..255.
        face: float32 ``[128]``, the recogniser's embedding.
        smile: 0..1, the mean over the clip.
        heads: uint8 ``[T, S, S]``, outlines of the head in each frame, 0 or 255, where they were asked for.
        motion: float32 ``[T, 58]``, coefficients, then the head relative to its mean in the clip, where it is known.
        heard: float32 ``[T, 320]``, the log-mel front's rows, where they are known.
    """

    name: str
    kind: str
    split: str
    frames: NDArray[np.uint8]
    points: NDArray[np.float32]
    seen: NDArray[np.bool_]
    contour: NDArray[np.uint8]
    face: NDArray[np.float32]
    smile: float = 0.0
    heads: NDArray[np.uint8] | None = None
    motion: NDArray[np.float32] | None = None
    heard: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.frames)


def clip_of(sample: Sample, side: int, heads: bool = False) -> Clip:
    """A clip of the dataset at ``side`` pixels, and with ``heads`` the outlines of them."""
    frames = [cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA) for frame in sample.frames()]
    large = sample.contour.shape[0]
    head = around_mean(sample.motion.head, sample.seen)
    meshes = sample.landmarks * np.float32(side / large)
    edges = cv2.resize(sample.contour.astype(np.uint8) * 255, (side, side), interpolation=cv2.INTER_AREA)
    return Clip(
        sample.key,
        kind_of(sample),
        sample.record.split,
        np.stack(frames),
        meshes[..., :2],
        sample.seen,
        edges,
        sample.embedding,
        smile_of(sample.motion.coefficients),
        _heads(frames, meshes) if heads else None,
        np.concatenate([centre_gaze(sample.motion.coefficients, sample.seen), head], 1).astype(np.float32),
        hear("log-mel", sample.samples, len(sample)).astype(np.float32),
    )


def _heads(frames: Sequence[NDArray[np.uint8]], meshes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Outlines as PortraitTalk's render draws them of a frame."""
    with PersonSegmenter() as person:
        edges = [contour(f, mesh, coarse=True, person=person(f)) for f, mesh in zip(frames, meshes, strict=True)]
    return np.stack(edges).astype(np.uint8) * np.uint8(255)


def gather(dataset: Path, side: int, *splits: str, most: int = MOST_OF_ONE, heads: bool = False) -> list[Clip]:
    """The clips of the splits whose pixels may be learnt, as :func:`clip_of`; ``most`` of the frequent speaker.

    Raises:
        DatasetError: when there are none.
    """
    clips = list(_permitted(dataset, side, splits, most, heads))
    if not clips:
        raise DatasetError(f"no clip of {dataset} has a licence of {' or '.join(LICENCES)}; their pixels alone teach")
    return clips


def _permitted(dataset: Path, side: int, splits: Sequence[str], most: int, heads: bool) -> Iterator[Clip]:
    for split in splits:
        ones = 0
        for sample in Dataset(dataset, split):
            one = kind_of(sample) == "one"
            if sample.record.licence in LICENCES and (not one or ones < most):
                ones += one
                yield clip_of(sample, side, heads)


def shares_of(clips: Sequence[Clip], one: float = 0.2) -> NDArray[np.float64]:
    """Probability of each clip: all alike, but the clips of the frequent speaker ``one`` together."""
    ones = np.array([clip.kind == "one" for clip in clips])
    weights = np.ones(len(clips))
    for of_kind, share in ((ones, one), (~ones, 1 - one)):
        weights[of_kind] *= share / max(1, of_kind.sum())
    return weights / weights.sum()
