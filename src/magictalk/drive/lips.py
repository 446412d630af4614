"""Lip refinement: lips that follow the sound and carry an emotion (MagicTalk, section 3.3, figure 3).

Audio2BS gives the lips of a neutral face. The Emotional-BS Residue Generator adds what an emotion changes in them: an
LSTM listens to a sliding window of eight frames, a CNN looks at eight frames of the emotion. Its lips replace those
that EmoDiff made; brows, eyes, cheeks and head stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from numpy.typing import NDArray
from torch import Tensor, nn

from magictalk import weights
from magictalk.audio.features import MELS, MELS_PER_FRAME, SILENCE
from magictalk.drive.audio2bs import LIPS, Audio2BSDrive, Heard
from magictalk.motion import ARKIT, FPS, Motion
from magictalk.style import Style, lay_over

WINDOW = 8
"""T, frames of sound under one look (section 4.1)."""
BEFORE = WINDOW // 2
"""Frames of a window that lie before the one it is about."""
AFTER = WINDOW - BEFORE - 1
REFERENCE_FRAMES = 8
"""Frames that show the emotion."""
EMPHASIS = 1.4
"""Expressions are shown to the network so much stronger than asked for: it answers with half to four fifths of them."""
JAW = LIPS.index(ARKIT.index("jawOpen"))
JAW_TRUST = 0.5
"""How much of what the network hears reaches the jaw. Of jaws both networks know as much, and their mean knows more."""


class EmotionalResidue(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """What an emotion changes in the lips (MagicTalk, section 3.3).

    Args:
        bands: mel bands.
        hidden: width of the LSTM.
        emotion: numbers that describe an emotion.
        dropout: in training.
    """

    @register_to_config
    def __init__(self, bands: int = MELS, hidden: int = 128, emotion: int = 48, dropout: float = 0.3) -> None:
        super().__init__()
        self.sound = nn.Linear(bands * MELS_PER_FRAME, hidden // 2)
        self.listen = nn.LSTM(hidden // 2 + len(LIPS), hidden, batch_first=True)
        self.look = nn.Sequential(
            nn.Conv1d(len(ARKIT), 64, 3, padding=1), nn.ReLU(), nn.Conv1d(64, 64, 3, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(64, emotion),
        )  # fmt: skip
        self.shown = nn.Linear(len(ARKIT), len(LIPS), bias=False)
        self.forget = nn.Dropout(dropout)
        self.residue = nn.Sequential(
            nn.Linear(hidden + emotion + len(LIPS), hidden), nn.GELU(), nn.Dropout(dropout),
            nn.Linear(hidden, len(LIPS)),
        )  # fmt: skip
        last = self.residue[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(self.shown.weight)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, neutral: Tensor, mel: Tensor, emotion: Tensor) -> Tensor:
        """The residue in each frame but a window's ends, ``[B, L, 29]``; arguments as :meth:`parts`."""
        shown, heard = self.parts(neutral, mel, emotion)
        return shown + heard

    def parts(self, neutral: Tensor, mel: Tensor, emotion: Tensor) -> tuple[Tensor, Tensor]:
        """What of the residue an emotion shows whatever is said, and what it changes in how this is said.

        Args:
            neutral: ``[B, L + 7, 29]``, lips of Audio2BS.
            mel: ``[B, 4 (L + 7), 80]``, what is heard.
            emotion: ``[B, L, 8, 52]`` or ``[B, 1, 8, 52]``, faces that show the emotion of each frame or of all.
        """
        sound = nn.functional.gelu(self.sound(mel.unflatten(1, (-1, MELS_PER_FRAME)).flatten(2)))
        windows = torch.cat([sound, neutral], -1).unfold(1, WINDOW, 1).mT  # [B, L, T, K]
        heard = self.listen(windows.flatten(0, 1))[0][:, -1].unflatten(0, windows.shape[:2])
        felt = self.look(emotion.flatten(0, 1).mT).unflatten(0, emotion.shape[:2]).expand(-1, windows.shape[1], -1)
        now = neutral[:, BEFORE : BEFORE + windows.shape[1]]
        # that of the mean face, as far as the lips are free to show it
        shown = self.shown(emotion.mean(2)) * (1 - now)
        return shown, self.residue(torch.cat([self.forget(heard), felt, now], -1))

    def refine(self, neutral: Tensor, mel: Tensor, emotion: Tensor) -> Tensor:
        """Emotional lips ``[B, L, 29]``, 0..1: those of Audio2BS and the residue; arguments as :meth:`parts`."""
        now = neutral[:, BEFORE : neutral.shape[1] - AFTER]
        shown, heard = self.parts(neutral, mel, emotion)
        trust = torch.ones(len(LIPS)).to(now)
        trust[JAW] = JAW_TRUST
        return (now + shown + trust * heard).clamp(0, 1)


class LipDrive:
    """Speech and style to lips, with the memory of a few seconds.

    Args:
        neutral: Audio2BS.
        network: see :class:`EmotionalResidue`.
        style: what expression, over time.
        reference: ``[8, 52]``, faces of somebody who talks without emotion; the style is laid over them.
    """

    def __init__(
        self, neutral: Audio2BSDrive, network: EmotionalResidue, style: Style, reference: NDArray[np.float32]
    ) -> None:
        self.neutral, self.network = neutral, network.eval()
        self.style, self.reference = style, reference

    @classmethod
    def load(cls, style: Style, reference: NDArray[np.float32], name: str | Path = "lips") -> LipDrive:
        """The drive with weights of this name, folder or hub id; errors as in :mod:`magictalk.weights`."""
        return cls(Audio2BSDrive.load(), weights.load(EmotionalResidue, name), style, reference)

    def stream(self, chunks: Iterator[NDArray[np.float32]]) -> Iterator[Motion]:
        """Motion of the lips from float32 pieces ``[N]`` at 16 kHz of any sizes; the total follows the sound."""
        # a window's beginning lies before the sound's
        held = Heard(
            np.zeros((0, len(LIPS)), np.float32), np.zeros(0, np.float32),
            np.full((BEFORE * MELS_PER_FRAME, MELS), SILENCE, np.float32),
        )  # fmt: skip
        start = 0
        for piece in self.neutral.hear(chunks):
            before = np.repeat(piece.lips[:1], BEFORE if start == 0 and not len(held.lips) else 0, 0)
            held = _join(replace(held, lips=np.concatenate([held.lips, before])), piece)
            ready = len(held.lips) - WINDOW + 1
            if ready > 0:
                yield self._refine(held, start, ready)
                start += ready
                held = Heard(held.lips[ready:], held.speaking[ready:], held.mel[ready * MELS_PER_FRAME :])
        rest = len(held.speaking)
        if rest:
            silence = np.full((AFTER * MELS_PER_FRAME, MELS), SILENCE, np.float32)
            lips = np.concatenate([held.lips, np.repeat(held.lips[-1:], AFTER, 0)])
            yield self._refine(Heard(lips, held.speaking, np.concatenate([held.mel, silence])), start, rest)

    def _refine(self, held: Heard, start: int, frames: int) -> Motion:
        """Motion of ``frames`` frames from number ``start`` on, whose windows begin with what is held."""
        over = self.style.expression((start + np.arange(frames)) / FPS)
        emotion = lay_over(self.reference, (EMPHASIS * over).clip(max=1)[:, None])  # [L, 8, 52]
        last = frames + WINDOW - 1
        arrays = held.lips[:last], held.mel[: last * MELS_PER_FRAME], emotion
        with torch.inference_mode():
            refined = self.network.refine(*(torch.from_numpy(array)[None] for array in arrays))[0].numpy()
        coefficients = np.zeros((frames, len(ARKIT)), np.float32)
        lips = Heard(refined, held.speaking[:frames], held.mel)
        coefficients[:, list(LIPS)] = lips.at_rest(over[:, list(LIPS)])
        return Motion(coefficients)


def _join(a: Heard, b: Heard) -> Heard:
    return Heard(*(np.concatenate(pair) for pair in ((a.lips, b.lips), (a.speaking, b.speaking), (a.mel, b.mel))))
