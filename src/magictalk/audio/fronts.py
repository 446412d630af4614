"""What generators of motion hear: log-mel in the nano tier, HuBERT in the full one, as rows on the frame grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from magictalk.audio.features import HOP_SAMPLES, MELS, MELS_PER_FRAME, SILENCE, Features
from magictalk.errors import MissingDependencyError, WeightsError

FRAME_SAMPLES = HOP_SAMPLES * MELS_PER_FRAME
"""Samples at 16 kHz of a frame at 25 fps."""
HUBERT = "facebook/hubert-base-ls960"
FrontName = Literal["log-mel", "hubert"]


class Front(Protocol):
    """What hears: sound to rows of numbers on the frame grid.

    Attributes:
        width: numbers a row.
        silence: float32 ``[width]``, the row that stands for no sound.
    """

    width: int
    silence: NDArray[np.float32]

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take the next samples ``[N]`` at 16 kHz; returns the rows ``[T, width]`` that they complete."""

    def finish(self) -> NDArray[np.float32]:
        """End the stream; returns the rows still held back. All rows together cover the sound."""


class LogMelFront:
    """Four frames of level-normalised log-mel a row; see :class:`magictalk.audio.features.Features`."""

    width = MELS * MELS_PER_FRAME
    silence = np.full(width, SILENCE, np.float32)

    def __init__(self) -> None:
        self._features = Features()
        self._waiting = np.zeros((0, MELS), np.float32)

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`Front`."""
        return self._rows(self._features.push(samples))

    def finish(self) -> NDArray[np.float32]:
        """See :class:`Front`; what a last row lacks is silence."""
        mel = self._features.finish()
        missing = -(len(self._waiting) + len(mel)) % MELS_PER_FRAME
        return self._rows(np.pad(mel, ((0, missing), (0, 0)), constant_values=SILENCE))

    def _rows(self, mel: NDArray[np.float32]) -> NDArray[np.float32]:
        mel = np.concatenate([self._waiting, mel])
        whole = len(mel) - len(mel) % MELS_PER_FRAME
        self._waiting = mel[whole:]
        return mel[:whole].reshape(-1, self.width)


class HubertFront:
    """The last layer of HuBERT (Hsu et al. 2021), whose 50 rows a second are averaged in pairs.

    It attends to all it is given, so that it is given little: 2 s at a time, after 1 s and before 0.4 s of context.

    Args:
        model: a ``transformers.HubertModel``; see :func:`load_hubert`.
    """

    PAST_FRAMES, NEW_FRAMES, AHEAD_FRAMES = 25, 50, 10
    SIDE_SAMPLES = 40
    """Its window is 400 samples every 320: with these at both ends there are two a frame."""
    LEAST_SPREAD = 1e-3
    """Sound is brought to unit spread; what spreads less than this (-60 dB) stays quiet."""

    def __init__(self, model: Any) -> None:
        self._model = model.eval()
        self.width = int(model.config.hidden_size)
        self.silence = np.zeros(self.width, np.float32)
        self._samples = np.zeros(0, np.float32)
        self._past = 0  # frames in `_samples` that have had their row

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`Front`."""
        self._samples = np.concatenate([self._samples, np.asarray(samples, np.float32)])
        rows = [np.zeros((0, self.width), np.float32)]
        while len(self._samples) >= (self._past + self.NEW_FRAMES + self.AHEAD_FRAMES) * FRAME_SAMPLES:
            rows.append(self._step(self.NEW_FRAMES))
        return np.concatenate(rows)

    def finish(self) -> NDArray[np.float32]:
        """See :class:`Front`."""
        rows = [np.zeros((0, self.width), np.float32)]
        while (rest := -(-len(self._samples) // FRAME_SAMPLES) - self._past) > 0:
            rows.append(self._step(min(rest, self.NEW_FRAMES)))
        return np.concatenate(rows)

    def _step(self, frames: int) -> NDArray[np.float32]:
        last = self._past + frames
        sound = self._samples[: (last + self.AHEAD_FRAMES) * FRAME_SAMPLES]
        sound = np.pad(sound, (0, -len(sound) % FRAME_SAMPLES))
        sound = (sound - sound.mean()) / max(float(sound.std()), self.LEAST_SPREAD)
        sound = np.pad(sound, self.SIDE_SAMPLES)
        with torch.inference_mode():
            found = self._model(torch.from_numpy(sound.astype(np.float32))[None]).last_hidden_state[0]
        rows = found.unflatten(0, (-1, 2)).mean(1)[self._past : last].float().numpy()
        kept = min(last, self.PAST_FRAMES)
        self._samples, self._past = self._samples[(last - kept) * FRAME_SAMPLES :], kept
        return np.asarray(rows, np.float32)


def load_hubert(name: str | Path = HUBERT) -> Any:
    """A ``transformers.HubertModel`` from a folder or a hub id, loaded strictly.

    Raises:
        MissingDependencyError: transformers is not installed.
        WeightsError: no safetensors of HuBERT are there, or they hold other weights than its own.
    """
    try:
        from safetensors import SafetensorError
        from transformers import HubertModel
    except ImportError as error:
        raise MissingDependencyError("HuBERT needs transformers; pip install 'magictalk[metrics]'") from error
    try:
        found: Any = HubertModel.from_pretrained(name, use_safetensors=True, output_loading_info=True)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise WeightsError(
            f"cannot load HuBERT from {name}: {' '.join(str(error).split())[:160]}; expected a folder with config.json "
            "and model.safetensors, or a hub id (a pickled pytorch_model.bin is not read: save it with "
            "HubertModel.save_pretrained)"
        ) from error
    model, report = found
    odd = sorted(str(key) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for key in report[kind])
    if odd:
        raise WeightsError(f"{name} does not hold HuBERT's weights and no others: {', '.join(odd[:3])}")
    return model.eval()
