"""Talking faces as sequences for drives to learn from: motion, what is heard, and where speech closes the lips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from magictalk.audio.features import MELS_PER_FRAME, SILENCE, features
from magictalk.data.dataset import Dataset, Sample
from magictalk.drive.audio2bs import RestGate
from magictalk.errors import DatasetError
from magictalk.face.rig import Rig, inner_lip_gap
from magictalk.motion import ARKIT
from magictalk.train.crops import fit
from magictalk.train.lips import kind_of

CLOSED_GAP = 0.05
"""Inter-ocular distances between the inner lips below which speech is closing them."""
LARGEST_TURN = 0.6
"""Radians from a clip's mean pose beyond which a frame does not teach."""

MIRRORED = tuple(
    ARKIT.index(name.replace("Left", "*").replace("Right", "Left").replace("*", "Right")) for name in ARKIT
)
"""Where each coefficient comes from in a mirror."""
_MIRRORED_HEAD = np.array([1, -1, -1, -1, 1, 1], np.float32)


@dataclass(frozen=True)
class Talk:
    """A clip of ``T`` frames.

    Attributes:
        name: its key.
        kind: ``"one"`` (the speaker of whom there are 300 clips), ``"generated"`` or ``"people"``.
        split: of the dataset.
        motion: float32 ``[T, 58]``: coefficients, then the head relative to its mean in the clip.
        seen: bool ``[T]``, frames that can teach.
        mel: float32 ``[4 T, 80]``.
        closure: float32 ``[T]``, 1 where speech closes the lips.
    """

    name: str
    kind: str
    split: str
    motion: NDArray[np.float32]
    seen: NDArray[np.bool_]
    mel: NDArray[np.float32]
    closure: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.motion)


def talk_of(sample: Sample, rig: Rig) -> Talk:
    """What training keeps of a clip."""
    head = around_mean(sample.motion.head, sample.seen)
    coefficients = centre_gaze(sample.motion.coefficients, sample.seen)
    gap = inner_lip_gap(rig.vertices(coefficients))
    gate = RestGate()
    gate.push(sample.samples)
    closure = gate.take(len(sample)) * (1 - gap / CLOSED_GAP).clip(0, 1)
    return Talk(
        sample.key,
        kind_of(sample),
        sample.record.split,
        np.concatenate([coefficients, head], 1),
        sample.seen & (np.linalg.norm(head[:, :3], axis=1) < LARGEST_TURN),
        fit(features(sample.samples), len(sample) * MELS_PER_FRAME, SILENCE),
        closure.astype(np.float32),
    )


def around_mean(head: NDArray[np.float32], seen: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Head motion ``[T, 6]`` relative to its mean rotation and translation over the frames ``seen``."""
    rotation = Rotation.from_rotvec(head[:, :3])
    turned = (rotation * rotation[seen].mean().inv()).as_rotvec()
    return np.concatenate([turned, head[:, 3:] - head[seen, 3:].mean(0)], 1).astype(np.float32)


def centre_gaze(coefficients: NDArray[np.float32], seen: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Coefficients ``[T, 52]`` of somebody who mostly looks ahead: where the camera stood is no part of a motion."""
    centred = coefficients.copy()
    for side in ("Left", "Right"):
        for one, other in (("In", "Out"), ("Up", "Down")):
            a, b = (ARKIT.index(f"eyeLook{way}{side}") for way in (one, other))
            gaze = coefficients[:, a] - coefficients[:, b]
            gaze = gaze - np.median(gaze[seen])
            centred[:, a], centred[:, b] = gaze.clip(0, 1), (-gaze).clip(0, 1)
    return centred


def gather(dataset: Path, *splits: str) -> list[Talk]:
    """All clips of the splits that last two seconds or more of frames that can teach."""
    rig = Rig.load()
    talks = [talk_of(sample, rig) for split in splits for sample in Dataset(dataset, split)]
    return [talk for talk in talks if talk.seen.sum() >= 50]


def starts_of(talk: Talk, frames: int) -> NDArray[np.int64]:
    """Where a window of frames that can teach begins."""
    if len(talk) < frames:
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.lib.stride_tricks.sliding_window_view(talk.seen, frames).all(1))


def need(taught: int, held: int) -> None:
    """Raise DatasetError unless there are clips to learn from and others to look at."""
    if not (taught and held):
        raise DatasetError(
            f"{taught} clips of split train and {held} of val last two seconds or more; expected some of both, so "
            "build a dataset of more videos"
        )


def balance(kinds: Sequence[str], lengths: Sequence[int], shares: dict[str, float]) -> NDArray[np.float64]:
    """Probability of each clip: by length to the 0.7, kinds in ``shares``."""
    weights = np.array(lengths, np.float64) ** 0.7
    for kind, share in shares.items():
        of_kind = np.array([k == kind for k in kinds])
        if of_kind.any():
            weights[of_kind] *= share / weights[of_kind].sum()
    return weights / weights.sum()


def mirror(motion: NDArray[np.float32]) -> NDArray[np.float32]:
    """Motion ``[..., 58]`` as a mirror shows it."""
    return np.concatenate([motion[..., list(MIRRORED)], motion[..., 52:] * _MIRRORED_HEAD], -1)
