"""Sound to lips: Audio2BS, the first network of the EmoDiff paper's lip refinement (MagicTalk, section 3.3).

As in the paper an LSTM reads audio features and predicts mouth blendshapes of a neutral face. It hears
log-mel instead of DeepSpeech, and both directions of a bounded window, so that it streams.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from numpy.typing import NDArray
from torch import Tensor, nn

from magictalk import weights
from magictalk.audio.features import MELS, MELS_PER_FRAME, SAMPLE_RATE, SILENCE, Features
from magictalk.motion import ARKIT, FPS, GROUPS, Motion

if TYPE_CHECKING:
    from magictalk.speech import Speech

LIPS = GROUPS["lips"]
"""Places in ``ARKIT`` of the coefficients that the network predicts, in its output's order."""

OPENERS = np.isin(
    np.array(ARKIT)[list(LIPS)],
    ("jawForward", "jawOpen", "mouthClose", "mouthFunnel", "mouthRollLower", "mouthRollUpper", "mouthShrugLower",
     "mouthShrugUpper", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight"),
)  # fmt: skip
"""Which of ``LIPS`` part the lips, ``[29]``; the others shape them."""

FRAME_SAMPLES = int(SAMPLE_RATE / FPS)
CHUNK_FRAMES = 50
PAST_FRAMES = 30
AHEAD_FRAMES = 10
"""A window: 2 s of output, after 1.2 s and before 0.4 s of context."""
BLEND_FRAMES = 4
"""Frames over which one window hands over to the next."""


class _Member(nn.Module):
    """Convolutions from 100 mel frames a second to 25, then a bidirectional LSTM."""

    def __init__(self, bands: int, hidden: int, layers: int, dropout: float, visemes: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            [
                nn.Conv1d(bands, hidden, 5, padding=2),
                nn.Conv1d(hidden, hidden, 4, stride=2, padding=1),
                nn.Conv1d(hidden, hidden, 4, stride=2, padding=1),
            ]
        )
        self.dropout = nn.Dropout(dropout)
        between = dropout if layers > 1 else 0.0
        self.lstm = nn.LSTM(hidden, hidden, layers, batch_first=True, bidirectional=True, dropout=between)
        self.lips = nn.Linear(2 * hidden, len(LIPS))
        self.visemes = nn.Linear(2 * hidden, visemes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        x = features.transpose(1, 2)
        for convolution in self.convolutions:
            x = self.dropout(nn.functional.gelu(convolution(x)))
        x = self.dropout(self.lstm(x.transpose(1, 2))[0])
        return self.lips(x), self.visemes(x)


class Audio2BS(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Mouth blendshapes from log-mel (EmoDiff, section 3.3).

    Args:
        bands: mel bands of the input.
        hidden: width of the convolutions and of each direction of the LSTM.
        layers: LSTM layers.
        dropout: in training.
        members: networks whose predictions are averaged.
        contrast: how much deviations from the mean mouth are enlarged. Regression to what sound cannot tell makes a
            network mumble; this gives the lips the spread of real ones.
        visemes: classes of the auxiliary head that training supervises with synthetic speech.
    """

    @register_to_config
    def __init__(
        self,
        bands: int = MELS,
        hidden: int = 128,
        layers: int = 2,
        dropout: float = 0.3,
        members: int = 1,
        visemes: int = 21,
        contrast: float = 1.0,
    ) -> None:
        super().__init__()
        self.centre: Tensor
        self.register_buffer("centre", torch.zeros(len(LIPS)))
        self.nets = nn.ModuleList([_Member(bands, hidden, layers, dropout, visemes) for _ in range(members)])

    def forward(self, features: Tensor) -> Tensor:
        """``features [B, 4 T, bands]`` on the mel grid to coefficients ``[B, T, 29]``, 0..1, in ``LIPS`` order."""
        mean = torch.stack([member(features)[0] for member in self.nets]).mean(0)
        return activate(self.centre + self.config["contrast"] * (mean - self.centre))


def activate(x: Tensor) -> Tensor:
    """Real numbers to coefficients 0..1: nearly straight between, bent softly at 0."""
    return (nn.functional.softplus(x, beta=12.0)).clamp(max=1.0)


class RestGate:
    """When nobody speaks, the mouth rests: 1 while there is speech, 0 in silence, eased in between.

    A frame counts as speech while its level is well over the running noise floor (the quietest moment of the
    last 3 s) and not far under the loudest of late; starting takes a higher level than going on. The gate
    opens ``LEAD_S`` before speech, as lips do, and closes within ``HOLD_S + EASE_S`` after it. Steady noise never
    opens it; in speech over noise it stays out of the network's way.
    """

    LEAD_S, HOLD_S, EASE_S = 0.12, 0.06, 0.08
    OVER_FLOOR_DB, UNDER_PEAK_DB, QUIETEST_DB, HYSTERESIS_DB = 8.0, 44.0, -65.0, 4.0
    FLOOR_S, PEAK_FALL_DB_PER_S = 3.0, 3.0

    def __init__(self) -> None:
        self._samples = np.zeros(0, np.float32)
        self._last = 0.0
        self._floor: deque[tuple[int, float]] = deque()  # a sliding minimum: (hop, level), rising
        self._peak = -45.0
        self._level: float | None = None
        self._hop = 0
        self._on = False
        self._active = np.zeros(0, bool)
        self._start = self._forgotten = 0

    def push(self, samples: NDArray[np.float32]) -> None:
        """Take the next samples ``[N]`` at 16 kHz."""
        self._samples = np.concatenate([self._samples, samples])
        hops = len(self._samples) // 160
        if hops == 0:
            return
        block, self._samples = self._samples[: hops * 160], self._samples[hops * 160 :]
        sharp = block - 0.9 * np.concatenate([[self._last], block[:-1]])  # rumble is no speech
        self._last = float(block[-1])
        levels = 10 * np.log10((sharp.reshape(hops, 160) ** 2).mean(1) + 1e-9)
        self._active = np.concatenate([self._active, [self._step(float(level)) for level in levels]])

    def _step(self, level: float) -> bool:
        self._level = level if self._level is None else 0.5 * (level + self._level)
        while self._floor and self._floor[-1][1] >= self._level:
            self._floor.pop()
        self._floor.append((self._hop, self._level))
        if self._floor[0][0] <= self._hop - self.FLOOR_S * 100:
            self._floor.popleft()
        self._hop += 1
        # a sound may begin with speech: for half a second, take a quiet room for granted
        floor = self._floor[0][1] if self._hop > 50 else min(self._floor[0][1], -55.0)
        self._peak = max(self._level, self._peak - self.PEAK_FALL_DB_PER_S / 100)
        needed = max(floor + self.OVER_FLOOR_DB, self._peak - self.UNDER_PEAK_DB, self.QUIETEST_DB)
        self._on = self._level > needed - (self.HYSTERESIS_DB if self._on else 0.0)
        return self._on

    def take(self, frames: int) -> NDArray[np.float32]:
        """The gate ``[frames]`` of the next video frames; needs ``LEAD_S + EASE_S`` of sound after them, or none."""
        ease, lead, hold = (round(s * 100) for s in (self.EASE_S, self.LEAD_S, self.HOLD_S))
        back = hold + 2 * ease
        first = self._start * MELS_PER_FRAME
        low, high = first - back, first + frames * MELS_PER_FRAME + lead + 2 * ease
        active = self._window(low, high).astype(np.float64)
        wide = np.array([active[max(0, i - hold) : i + lead + 1].max() for i in range(len(active))])
        kernel = np.hanning(2 * ease + 1)
        eased = np.convolve(wide, kernel / kernel.sum(), "same")
        gate = eased[back : back + frames * MELS_PER_FRAME : MELS_PER_FRAME]
        self._start += frames
        self._forget(self._start * MELS_PER_FRAME - back)
        return gate.astype(np.float32)

    def _window(self, low: int, high: int) -> NDArray[np.bool_]:
        low, high = low - self._forgotten, high - self._forgotten
        inside = self._active[max(0, low) : max(0, high)]
        return np.pad(inside, (max(0, -low), high - max(0, low) - len(inside)))

    def _forget(self, hop: int) -> None:
        drop = max(0, hop - self._forgotten)
        self._active = self._active[drop:]
        self._forgotten += drop


@dataclass(frozen=True)
class Heard:
    """Some frames of speech.

    Attributes:
        lips: float32 ``[T, 29]``, what the network makes of it.
        speaking: float32 ``[T]``, the rest gate.
        mel: float32 ``[4 T, 80]``, what was heard.
    """

    lips: NDArray[np.float32]
    speaking: NDArray[np.float32]
    mel: NDArray[np.float32]

    def at_rest(self, face: NDArray[np.float32]) -> NDArray[np.float32]:
        """The lips ``[T, 29]``, which in a pause go to those of a silent face, ``[29]`` or ``[T, 29]``.

        They meet then, unless the face holds them apart (half as far as while it speaks), but keep half of their shape:
        people do not fall back to a blank face.
        """
        rest = np.where(OPENERS, 0.5 * face, np.maximum(0.5 * self.lips, face))
        return rest + self.speaking[:, None] * (self.lips - rest)


class Audio2BSDrive:
    """Speech to lip motion, two seconds at a time, with the memory of a few.

    Args:
        network: see :class:`Audio2BS`.
    """

    def __init__(self, network: Audio2BS) -> None:
        self.network = network.eval()

    @classmethod
    def load(cls, name: str | Path = "audio2bs") -> Audio2BSDrive:
        """The drive with weights of this name, folder or hub id; errors as in :mod:`magictalk.weights`."""
        return cls(weights.load(Audio2BS, name))

    def __call__(self, speech: Speech) -> Iterator[Motion]:
        """Motion of the lips, in chunks of at most 50 frames; the total follows the sound exactly.

        The chunks do not depend on how the speech arrives: windows start every 2 s of the sound.
        """
        return self.stream(speech.chunks())

    def stream(self, chunks: Iterator[NDArray[np.float32]]) -> Iterator[Motion]:
        """As ``__call__``, from float32 pieces ``[N]`` at 16 kHz of any sizes."""
        for heard in self.hear(chunks):
            coefficients = np.zeros((len(heard.lips), len(ARKIT)), np.float32)
            coefficients[:, list(LIPS)] = heard.at_rest(np.zeros(len(LIPS), np.float32))
            yield Motion(coefficients)

    def hear(self, chunks: Iterator[NDArray[np.float32]]) -> Iterator[Heard]:
        """What is heard in the pieces ``[N]``, and the lips that go with it, in chunks of at most 50 frames."""
        features, gate = Features(), RestGate()
        heard = np.zeros((0, MELS), np.float32)  # from mel frame `origin` on
        origin = samples = start = 0
        tail: NDArray[np.float32] | None = None
        for piece in chunks:
            samples += len(piece)
            gate.push(piece)
            heard = np.concatenate([heard, features.push(piece)])
            need = start + CHUNK_FRAMES + AHEAD_FRAMES
            while (origin + len(heard)) >= need * MELS_PER_FRAME and samples >= need * FRAME_SAMPLES:
                lips, tail = self._window(heard, origin, start, CHUNK_FRAMES, tail)
                yield Heard(lips, gate.take(CHUNK_FRAMES), _rows(heard, origin, start, CHUNK_FRAMES))
                start += CHUNK_FRAMES
                need += CHUNK_FRAMES
                drop = max(0, (start - PAST_FRAMES) * MELS_PER_FRAME - origin)
                heard, origin = heard[drop:], origin + drop
        heard = np.concatenate([heard, features.finish()])
        total = round(samples / FRAME_SAMPLES)
        while start < total:
            frames = min(CHUNK_FRAMES, total - start)
            lips, tail = self._window(heard, origin, start, frames, tail)
            yield Heard(lips, gate.take(frames), _rows(heard, origin, start, frames))
            start += frames

    def _window(
        self, heard: NDArray[np.float32], origin: int, start: int, frames: int, tail: NDArray[np.float32] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Coefficients ``[frames, 29]`` from frame ``start`` on, and what the next window blends in at its start."""
        first = max(0, start - PAST_FRAMES)
        window = _rows(heard, origin, first, start - first + frames + AHEAD_FRAMES)
        with torch.inference_mode():
            out = self.network(torch.from_numpy(window)[None])[0].numpy()[start - first :]
        lips, after = out[:frames].copy(), out[frames : frames + BLEND_FRAMES]
        if tail is not None:
            n = min(frames, BLEND_FRAMES)
            w = ((np.arange(n) + 1) / (BLEND_FRAMES + 1))[:, None]
            lips[:n] = (1 - w) * tail[:n] + w * lips[:n]
        return lips, after


def _rows(heard: NDArray[np.float32], origin: int, start: int, frames: int) -> NDArray[np.float32]:
    """Log-mel ``[4 frames, 80]`` from video frame ``start`` on, of rows that begin with mel frame ``origin``."""
    low, high = start * MELS_PER_FRAME - origin, (start + frames) * MELS_PER_FRAME - origin
    rows = heard[low:high]
    return np.pad(rows, ((0, high - low - len(rows)), (0, 0)), constant_values=SILENCE)
