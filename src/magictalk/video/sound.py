"""The sound a video carries: at its own rate and channels, streamed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sound:
    """A sound in its original quality.

    Attributes:
        rate: samples a second.
        layout: FFmpeg's name of the channels: ``"mono"``, ``"stereo"``, ``"7.1"`` ...
        blocks: starts from the beginning at each call: float32 ``[n, channels]`` blocks of any length.
        copy_from: a file whose whole first audio stream this is, so that its packets may be copied unchanged.
    """

    rate: int
    layout: str
    blocks: Callable[[], Iterator[NDArray[np.float32]]]
    copy_from: Path | None = None
