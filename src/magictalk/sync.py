"""The lip-sync expert: does this mouth belong to this sound, and how far are they apart?

After the expert of the EmoDiff paper's lip refinement (MagicTalk, section 3.3), which follows Wav2Lip's (Prajwal et al.
2020, section 3.2): 0.2 s of sound against five frames of the mouth, cosine similarity, binary cross entropy. The mouth
comes as ARKit coefficients, through which a loss can flow back into a drive, or as pictures, to judge videos.

Signs: an offset of ``s`` seconds says that the mouth at time t matches the sound at t + s.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from magictalk import weights
from magictalk.audio.features import MELS, MELS_PER_FRAME, SILENCE, features
from magictalk.errors import MotionError
from magictalk.face.pose import Pose
from magictalk.face.rig import fill_gaps
from magictalk.motion import FPS, GROUPS

LIPS = GROUPS["lips"]
"""Places in ``ARKIT`` of the coefficients that the expert sees, in its input's order."""
WINDOW = 5
"""Video frames under one look at the mouth."""
HEARD = WINDOW * MELS_PER_FRAME
"""Mel frames under one listening: 0.2 s, centred on the window's middle frame."""
MAX_LAG = 15
"""Video frames by which sound and picture are shifted against each other (0.6 s), as SyncNet does."""
SHORTEST = 9
"""Fewest video frames that can be judged."""
STEADY_FRAMES = 1.5
"""How far the offsets of a clip's halves may lie from the whole's."""
CROP = (64, 80)
"""Height and width of a mouth picture, pixels."""

_CHUNK = 500  # pictures seen at once
_CROP_CENTRE, _CROP_WIDTH = (0.0, -1.22, 0.25), 1.6  # in face space: mouth and chin


def mouth_crop(image: NDArray[np.uint8], pose: Pose) -> NDArray[np.uint8]:
    """The mouth and chin, turned upright and scaled by the head's pose, grey.

    Args:
        image: uint8 RGB ``[H, W, 3]``.
        pose: of this frame; it depends on the skull only, so the crop does not follow the jaw.

    Returns:
        uint8 ``[64, 80]``, of 1.6 by 1.28 inter-ocular distances.
    """
    import cv2

    height, width = 2 * CROP[0], 2 * CROP[1]  # drawn twice as large, then averaged, against aliasing
    side = _CROP_WIDTH / 2
    drop = side * CROP[0] / CROP[1]
    corners = np.array([[-side, drop, 0], [side, drop, 0], [-side, -drop, 0]]) + _CROP_CENTRE
    source = pose.to_image(corners).astype(np.float32)
    target = np.array([[-0.5, -0.5], [width - 0.5, -0.5], [-0.5, height - 0.5]], np.float32)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    large = cv2.warpAffine(
        grey, cv2.getAffineTransform(source, target), (width, height), borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(cv2.resize(large, (CROP[1], CROP[0]), interpolation=cv2.INTER_AREA), np.uint8)


def mouth_crops(frames: Iterable[NDArray[np.uint8]], landmarks: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Mouth pictures ``[T, 64, 80]`` of frames ``[H, W, 3]`` with their meshes ``[T, 478, 3]`` in pixels.

    Frames without a face (NaN) are cropped where the frames around them lead.

    Raises:
        MotionError: when no frame shows a face, or there are not as many frames as meshes.
    """
    poses = Pose.fit_sequence(fill_gaps(np.asarray(landmarks)))
    crops = [mouth_crop(frame, poses[i]) for i, frame in zip(range(len(poses)), frames, strict=False)]
    if len(crops) != len(poses):
        raise MotionError(f"{len(crops)} frames and {len(poses)} meshes; expected one mesh a frame")
    return np.stack(crops)


def hear(samples: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
    """Log-mel ``[4 T + 16, 80]`` around ``frames`` video frames of sound ``[N]`` at 16 kHz; silence beyond its ends.

    Rows ``4 t`` to ``4 t + 20`` are the 0.2 s centred on frame ``t``.
    """
    mel, side = features(samples), HEARD // 2
    length = frames * MELS_PER_FRAME + HEARD - MELS_PER_FRAME
    after = max(0, length - side - len(mel))
    return np.pad(mel, ((side, after), (0, 0)), constant_values=SILENCE)[:length]


def hold_ends(values: Tensor) -> Tensor:
    """``[..., T, K]`` with both ends held for half a window, ``[..., T + 4, K]``, so that each frame has a window."""
    first, last = (end.repeat_interleave(WINDOW // 2, -2) for end in (values[..., :1, :], values[..., -1:, :]))
    return torch.cat([first, values, last], -2)


class _Ear(nn.Sequential):
    """Log-mel ``[B, 80, 4 n + 16]`` to ``[B, D, n]``."""

    def __init__(self, bands: int, width: int, dimensions: int, dropout: float) -> None:
        super().__init__(
            nn.Conv1d(bands, width, 3), nn.BatchNorm1d(width), nn.ReLU(),
            nn.Conv1d(width, width, 4, stride=2), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout),
            nn.Conv1d(width, width, 4, stride=2), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout),
            nn.Conv1d(width, dimensions, 3),
        )  # fmt: skip


class _Lips(nn.Sequential):
    """What describes the mouth in each frame, ``[B, K, n + 4]``, to ``[B, D, n]``."""

    def __init__(self, coefficients: int, width: int, dimensions: int, dropout: float) -> None:
        super().__init__(
            nn.Conv1d(coefficients, width, 3), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout),
            nn.Conv1d(width, width, 3), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout),
            nn.Conv1d(width, dimensions, 1),
        )  # fmt: skip


class _Eye(nn.Sequential):
    """Mouth pictures ``[N, 1, 64, 80]`` to what describes each, ``[N, K]``."""

    def __init__(self, width: int, seen: int, dropout: float) -> None:
        layers: list[nn.Module] = []
        widths, strides = (1, width, width, 2 * width, 2 * width, 4 * width), (2, 2, 1, 2, 2)
        for before, after, stride in zip(widths, widths[1:], strides, strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=stride, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        flat = widths[-1] * (CROP[0] // 16) * (CROP[1] // 16)
        super().__init__(*layers, nn.Flatten(), nn.Dropout(dropout), nn.Linear(flat, seen))


class SyncExpert(ModelMixin, ConfigMixin):
    """Sound and mouth in one space, where those that belong together point the same way.

    All encoders slide: ``n`` windows in a row cost little more than one.

    Args:
        bands: mel bands.
        coefficients: of the mouth.
        dimensions: of the common space.
        ear_width, lips_width, eye_width: channels of the three encoders.
        seen: numbers that describe one mouth picture.
        dropout, eye_dropout: share of numbers dropped in training.
    """

    @register_to_config
    def __init__(
        self,
        bands: int = MELS,
        coefficients: int = len(LIPS),
        dimensions: int = 64,
        ear_width: int = 128,
        lips_width: int = 128,
        eye_width: int = 16,
        seen: int = 48,
        dropout: float = 0.3,
        eye_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.mean: Tensor
        self.spread: Tensor
        self.register_buffer("mean", torch.zeros(coefficients))
        self.register_buffer("spread", torch.ones(coefficients))
        self.ear = _Ear(bands, ear_width, dimensions, dropout)
        self.lips = _Lips(coefficients, lips_width, dimensions, dropout)
        self.eye = _Eye(eye_width, seen, eye_dropout)
        self.gaze = _Lips(seen, lips_width, dimensions, eye_dropout)
        self.scale = nn.Parameter(torch.tensor(2.0))  # in logarithms
        self.bias = nn.Parameter(torch.tensor(-2.0))

    def of_sound(self, mel: Tensor) -> Tensor:
        """Unit vectors ``[B, n, D]`` of log-mel ``[B, 4 n + 16, 80]``; see :func:`hear`."""
        return functional.normalize(self.ear(mel.mT).mT, dim=-1)

    def of_lips(self, coefficients: Tensor) -> Tensor:
        """Unit vectors ``[B, n, D]`` of coefficients ``[B, n + 4, 29]`` in ``LIPS`` order."""
        return functional.normalize(self.lips(((coefficients - self.mean) / self.spread).mT).mT, dim=-1)

    def of_pictures(self, crops: Tensor) -> Tensor:
        """Unit vectors ``[B, T, D]`` of mouth pictures ``[B, T, 64, 80]``, 0..255; see :func:`mouth_crops`."""
        flat = crops.flatten(0, 1)[:, None]
        seen = torch.cat([self._look(part) for part in flat.split(_CHUNK)]).unflatten(0, crops.shape[:2])
        return functional.normalize(self.gaze(hold_ends(seen).mT).mT, dim=-1)

    def _look(self, crops: Tensor) -> Tensor:
        x = crops.float()
        return self.eye((x - x.mean((-2, -1), keepdim=True)) / (x.std((-2, -1), keepdim=True) + 4.0))

    def similarity(self, coefficients: Tensor, mel: Tensor) -> Tensor:
        """Cosine ``[B]``, -1..1, of mouths ``[B, 5, 29]`` and sounds ``[B, 20, 80]``; differentiable in both.

        For all windows of a clip at once give ``[B, n + 4, 29]`` and ``[B, 4 n + 16, 80]``: ``[B, n]``.
        """
        return (self.of_lips(coefficients) * self.of_sound(mel)).sum(-1).squeeze(-1)

    def logits(self, cosine: Tensor) -> Tensor:
        """Log odds that mouth and sound belong together, of any shape."""
        return self.scale.exp() * cosine + self.bias

    def forward(self, coefficients: Tensor, mel: Tensor) -> Tensor:
        """Log odds ``[B]`` that mouths ``[B, 5, 29]`` and sounds ``[B, 20, 80]`` belong together."""
        return self.logits(self.similarity(coefficients, mel))


@dataclass(frozen=True)
class Sync:
    """How well a mouth follows a sound.

    Attributes:
        offset_s: seconds; the mouth at t matches the sound at t + this best. 0.6 at most either way.
        score: mean cosine at the best offset, -1..1.
        score_at_zero: mean cosine as it is.
        distance: Sync-D (magictalk): the least over offsets of the mean distance between unit vectors, 0..2.
        confidence: Sync-C (magictalk): the median over offsets of that distance less the least.
        steady: whether both halves of the clip show this offset, within a frame and a half.
    """

    offset_s: float
    score: float
    score_at_zero: float
    distance: float
    confidence: float
    steady: bool


class SyncJudge:
    """The expert on whole clips.

    Args:
        expert: see :class:`SyncExpert`.
    """

    def __init__(self, expert: SyncExpert) -> None:
        self.expert = expert.eval()

    @classmethod
    def load(cls, name: str | Path = "sync") -> SyncJudge:
        """The judge with weights of this name, folder or hub id; errors as in :mod:`magictalk.weights`."""
        return cls(weights.load(SyncExpert, name))

    def of_coefficients(self, coefficients: NDArray[np.float32], samples: NDArray[np.float32]) -> Sync:
        """Judge a motion's coefficients ``[T, 52]`` at 25 fps against sound ``[N]`` at 16 kHz, both from time 0.

        Raises:
            MotionError: when the clip is shorter than 9 frames.
        """
        return compare(self.cosines_of_coefficients(coefficients, samples))

    def of_frames(
        self, frames: Iterable[NDArray[np.uint8]], landmarks: NDArray[np.float32], samples: NDArray[np.float32]
    ) -> Sync:
        """Judge a video's frames ``[H, W, 3]`` at 25 fps and their meshes ``[T, 478, 3]`` in pixels against sound.

        Raises:
            MotionError: as :func:`mouth_crops`, or when the clip is shorter than 9 frames.
        """
        return compare(self.cosines_of_crops(mouth_crops(frames, landmarks), samples))

    def cosines_of_coefficients(
        self, coefficients: NDArray[np.float32], samples: NDArray[np.float32], most: int = MAX_LAG
    ) -> NDArray[np.float32]:
        """Cosines ``[T, 2 most + 1]`` of ``coefficients [T, 52]`` and sound; see :func:`cosines_by_lag`."""
        lips = torch.from_numpy(np.ascontiguousarray(coefficients[:, list(LIPS)], dtype=np.float32))
        with torch.inference_mode():
            return self._with_sound(self.expert.of_lips(hold_ends(lips)[None])[0], samples, most)

    def cosines_of_crops(
        self, crops: NDArray[np.uint8], samples: NDArray[np.float32], most: int = MAX_LAG
    ) -> NDArray[np.float32]:
        """Cosines ``[T, 2 most + 1]`` of mouth pictures ``[T, 64, 80]`` and sound; see :func:`cosines_by_lag`."""
        with torch.inference_mode():
            return self._with_sound(self.expert.of_pictures(torch.from_numpy(crops)[None])[0], samples, most)

    def _with_sound(self, mouth: Tensor, samples: NDArray[np.float32], most: int) -> NDArray[np.float32]:
        sound = self.expert.of_sound(torch.from_numpy(hear(samples, len(mouth)))[None])[0]
        return cosines_by_lag(mouth.numpy(), sound.numpy(), most)


def cosines_by_lag(mouth: NDArray[np.float32], sound: NDArray[np.float32], most: int = MAX_LAG) -> NDArray[np.float32]:
    """Cosines ``[T, 2 most + 1]`` of each frame's mouth with the sounds ``-most`` to ``most`` frames later.

    Args:
        mouth, sound: unit vectors ``[T, D]`` of a clip's frames.
        most: the largest lag.

    Returns:
        NaN where the sound would lie outside of the clip.
    """
    padded = np.pad(sound, ((most, most), (0, 0)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * most + 1, axis=0)  # [T, D, lags]
    return np.einsum("td,tdk->tk", mouth, windows)


def compare(cosines: NDArray[np.float32]) -> Sync:
    """What the cosines ``[T, 31]`` of a clip, by lag from -15 to 15 frames, say.

    Raises:
        MotionError: when the clip is shorter than 9 frames.
    """
    frames = len(cosines)
    if frames < SHORTEST:
        raise MotionError(f"{frames} frames are too few to judge lip-sync; expected {SHORTEST} or more")
    scores = means_by_lag(cosines)
    lag, score = _peak(scores)
    halves = [_peak(means_by_lag(half))[0] for half in (cosines[: frames // 2], cosines[frames // 2 :])]
    distances = means_by_lag(np.sqrt(np.maximum(0, 2 - 2 * cosines)))
    least = float(np.nanmin(distances))
    return Sync(
        offset_s=lag / FPS,
        score=score,
        score_at_zero=float(scores[MAX_LAG]),
        distance=least,
        confidence=float(np.nanmedian(distances)) - least,
        steady=max(abs(half - lag) for half in halves) <= STEADY_FRAMES,
    )


def means_by_lag(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean over frames of ``values [T, lags]``: ``[lags]``, NaN for lags that fewer than half of the frames know."""
    known = np.isfinite(values)
    counts = known.sum(0)
    sums = np.where(known, values, 0).sum(0, dtype=np.float64)
    return np.where(counts >= max(1, len(values) / 2), sums / np.maximum(counts, 1), np.nan)


def _peak(scores: NDArray[np.float64]) -> tuple[float, float]:
    """The best lag in frames, refined by a parabola, and the score there."""
    best = int(np.nanargmax(scores))
    lag = best - len(scores) // 2
    around = scores[best - 1 : best + 2] if best else scores[:0]
    if len(around) < 3 or not np.isfinite(around).all():
        return float(lag), float(scores[best])
    a, b, c = around
    fine = 0.5 * (a - c) / (a - 2 * b + c) if a - 2 * b + c < 0 else 0.0
    return float(lag + fine), float(b - 0.25 * (a - c) * fine)


KEEP_SCORE = 0.40
"""Score plus confidence below which sound and lips do not belong together.

On training videos judged by an expert of other people, 0.40 drops 98 % of those given another's sound and 4 % of those
with their own.
"""
FLAT_CONFIDENCE = 0.05
"""Confidence below which no offset is better than others: silence, or a mouth that does not move."""
KEEP_OFFSET_S = 0.05
"""Offsets up to this are left alone: 90 % of three-second clips of one recording lie within 0.03 s of each other."""
MAX_OFFSET_S = 0.3
"""Offsets up to this are corrected where they are steady."""


def verdict(sync: Sync, max_offset_s: float = MAX_OFFSET_S) -> tuple[Literal["keep", "correct", "drop"], str]:
    """What a data filter should do with a clip, and why in a few words (none where it is kept).

    The same cause always has the same words, without the clip's own figures.

    Args:
        sync: what the judge found.
        max_offset_s: the largest offset to correct, seconds; up to ``KEEP_OFFSET_S`` nothing is ever corrected, and
            an offset within that is no reason to drop either.
    """
    if sync.score + sync.confidence < KEEP_SCORE or sync.confidence < FLAT_CONFIDENCE:
        return "drop", "lips do not follow the sound"
    if abs(sync.offset_s) <= KEEP_OFFSET_S:
        return "keep", ""
    if not sync.steady:
        return "drop", "sound is off, not steadily"
    if abs(sync.offset_s) > max_offset_s:
        return "drop", f"sound is off (expected {max_offset_s:g} s or less)"
    return "correct", "sound is off"
