"""Videos to be judged, and two of them side by side by a stated rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from magictalk.errors import VideoError
from magictalk.motion import FPS
from magictalk.speech import Speech
from magictalk.video import probe, read_frames

Frames = NDArray[np.uint8]

RULE = (
    "Both videos are put on the 25 fps grid from their beginnings and cut to the shorter; the generated picture is "
    "resized to the reference's size (area filter when it shrinks, Lanczos when it grows); each video is judged with "
    "its own sound."
)
CHUNK = 16
"""Frames that are held at once: what FVD takes for a clip."""
TOLERANCE = 0.1
"""Share by which lengths, or the sides' ratios, may differ before it is remarked."""


@dataclass(frozen=True, eq=False)
class Footage:
    """A video to be judged.

    Attributes:
        name: for messages.
        frames: starts from the beginning at each call: uint8 RGB ``[H, W, 3]`` at 25 fps.
        speech: its sound; None where it has none.
        landmarks: float32 ``[T, 478, 3]`` px, where the face has been tracked before.
    """

    name: str
    frames: Callable[[], Iterator[Frames]]
    speech: Speech | None = None
    landmarks: NDArray[np.float32] | None = None

    @staticmethod
    def open(path: str | Path) -> Footage:
        """A video file.

        Raises:
            VideoError: when it is missing, empty, damaged, or no video.
            SpeechError: when its sound is damaged.
        """
        speech = Speech.open(path) if probe(path).has_audio else None
        return Footage(Path(path).name, lambda: read_frames(path, FPS), speech)


@dataclass(frozen=True, eq=False)
class Chunk:
    """A few frames of a generated video, and of its reference where there is one.

    Attributes:
        first: number of its first frame.
        generated: uint8 ``[t, H, W, 3]``.
        reference: the same of the reference, or None.
    """

    first: int
    generated: Frames
    reference: Frames | None

    def __len__(self) -> int:
        return len(self.generated)


def side_by_side(generated: Footage, reference: Footage | None, remark: Callable[[str], None]) -> Iterator[Chunk]:
    """Both videos in chunks by :data:`RULE`, in bounded memory.

    Args:
        generated: what is judged.
        reference: the real video; None for the generated one alone.
        remark: told when lengths or shapes differ by more than a tenth.

    Raises:
        VideoError: when one cannot be read, or has no frame.
    """
    mine, theirs = generated.frames(), None if reference is None else reference.frames()
    done = 0
    while True:
        ours = list(islice(mine, CHUNK))
        real = ours if theirs is None else list(islice(theirs, CHUNK))
        together = min(len(ours), len(real))
        if not done and not together:
            empty = generated if not ours or reference is None else reference
            raise VideoError(f"{empty.name} holds no frame; expected a video")
        if together:
            if not done and _shape_differs(ours[0], real[0]):
                remark(f"{generated.name} is stretched from {_size(ours[0])} to {_size(real[0])} px")
            fitted = np.stack([fit_to(real[0].shape, frame) for frame in ours[:together]])
            yield Chunk(done, fitted, None if theirs is None else np.stack(real[:together]))
        done += together
        if together < CHUNK:
            allowed = int(TOLERANCE * done)
            for left, rest, whose in ((ours, mine, "is"), (real, theirs or iter(()), "has a reference")):
                if len(left) - together + sum(1 for _ in islice(rest, allowed + 1)) > allowed:
                    remark(f"{generated.name} {whose} over a tenth too long; the first {done / FPS:.2f} s are judged")
            return


def _shape_differs(a: Frames, b: Frames) -> bool:
    ratio = a.shape[1] / a.shape[0] * b.shape[0] / b.shape[1]
    return max(ratio, 1 / ratio) > 1 + TOLERANCE


def _size(frame: Frames) -> str:
    return f"{frame.shape[1]}x{frame.shape[0]}"


def fit_to(shape: tuple[int, ...], frame: Frames) -> Frames:
    """The frame resized to the height and width of ``shape``."""
    if frame.shape == shape:
        return frame
    way = cv2.INTER_AREA if frame.shape[0] > shape[0] else cv2.INTER_LANCZOS4
    return np.asarray(cv2.resize(frame, (shape[1], shape[0]), interpolation=way), np.uint8)
