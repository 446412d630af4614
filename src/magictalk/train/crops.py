"""Batches of training crops: tracked clips and synthetic speech, each crop spoiled, stretched and masked anew."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from magictalk.audio.features import MELS_PER_FRAME, SILENCE, features
from magictalk.data.augment import mask, spoil, stretch
from magictalk.data.voices import VISEMES, Utterance
from magictalk.drive.audio2bs import FRAME_SAMPLES
from magictalk.train.lips import Example

FRAMES = 112
"""Video frames in a training crop (4.5 s)."""


def fit(values: NDArray[np.float32], length: int, fill: float = 0.0) -> NDArray[np.float32]:
    """Cut or pad rows of ``values [N, ...]`` to ``length``."""
    values = values[:length]
    return np.pad(values, ((0, length - len(values)), *[(0, 0)] * (values.ndim - 1)), constant_values=fill)


class RealCrops:
    """Batches of crops of tracked clips, each spoiled, stretched and masked anew."""

    def __init__(self, examples: Sequence[Example], shares: NDArray[np.float64], rng: np.random.Generator) -> None:
        self._examples, self._shares, self._rng = examples, shares, rng
        self._voices = [e.samples for e in examples if e.kind != "one"]

    def __call__(self, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Features ``[B, 4 T, 80]``, targets ``[B, T, D]`` and where they hold ``[B, T]``."""
        chosen = self._rng.choice(len(self._examples), batch, p=self._shares)
        heard, targets, seen = zip(*(self._crop(self._examples[i]) for i in chosen), strict=True)
        return tuple(torch.from_numpy(np.stack(part)) for part in (heard, targets, seen))  # type: ignore[return-value]

    def _crop(self, e: Example) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        rng, total = self._rng, len(e.targets)
        first = int(rng.integers(0, max(1, total - FRAMES + 1)))
        speed = 1.0 if rng.random() < 0.4 else float(rng.uniform(0.85, 1.18))
        start = first * FRAME_SAMPLES + round(e.offset_s * 16000)
        sound = np.concatenate([np.zeros(max(0, -start), np.float32), e.samples[max(0, start) :]])
        sound = sound[: int(FRAMES * FRAME_SAMPLES * speed) + 2]
        sound = fit(stretch(sound, speed, min(FRAMES * FRAME_SAMPLES, int(len(sound) / speed))), FRAMES * FRAME_SAMPLES)
        seen = stretch(e.seen[first:].astype(np.float32), speed, FRAMES) > 0.99
        # frames past the clip's end, and those whose sound lies outside of it
        place = first + np.arange(FRAMES) * speed
        heard = place + e.offset_s * 25
        seen &= (place <= total - 1) & (heard >= 0) & (heard <= len(e.samples) / FRAME_SAMPLES)
        x = fit(features(spoil(sound, rng, self._voices)), FRAMES * MELS_PER_FRAME, SILENCE)
        return mask(x, rng), stretch(e.targets[first:], speed, FRAMES), seen


class SpokenCrops:
    """Batches of synthetic speech, spoiled likewise, with pauses put in."""

    def __init__(
        self, bank: Sequence[Utterance], voices: Sequence[NDArray[np.float32]], rng: np.random.Generator
    ) -> None:
        self._bank, self._voices, self._rng = bank, voices, rng

    def __call__(self, batch: int) -> tuple[Tensor, Tensor]:
        """Features ``[B, 4 T, 80]`` and visemes ``[B, T, 21]``."""
        chosen = self._rng.integers(0, len(self._bank), batch)
        heard, visemes = zip(*(self._crop(self._bank[i]) for i in chosen), strict=True)
        return torch.from_numpy(np.stack(heard)), torch.from_numpy(np.stack(visemes))

    def _crop(self, utterance: Utterance) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        rng, rest = self._rng, np.eye(1, len(VISEMES), dtype=np.float32)
        speed = float(rng.uniform(0.85, 1.18))
        sound = stretch(utterance.samples, speed, int(len(utterance.samples) / speed))
        visemes = stretch(utterance.visemes, speed, int(len(utterance.visemes) / speed))
        pauses = np.flatnonzero(visemes[:, 0] > 0.95)
        if rng.random() < 0.25 and len(pauses):
            at, length = int(rng.choice(pauses)), int(rng.integers(8, 40))
            hush = np.zeros(length * FRAME_SAMPLES, np.float32)
            sound = np.concatenate([sound[: at * FRAME_SAMPLES], hush, sound[at * FRAME_SAMPLES :]])
            visemes = np.concatenate([visemes[:at], rest.repeat(length, 0), visemes[at:]])
        lead, first = int(rng.integers(0, 25)), int(rng.integers(0, max(1, len(visemes) - FRAMES)))
        sound = np.concatenate([np.zeros(lead * FRAME_SAMPLES, np.float32), sound[first * FRAME_SAMPLES :]])
        sound = spoil(fit(sound, FRAMES * FRAME_SAMPLES), rng, self._voices)
        visemes = np.concatenate([rest.repeat(lead, 0), visemes[first:], rest.repeat(FRAMES, 0)])[:FRAMES]
        x = mask(fit(features(sound), FRAMES * MELS_PER_FRAME, SILENCE), rng)
        return x, visemes / visemes.sum(1, keepdims=True).clip(1e-3)
