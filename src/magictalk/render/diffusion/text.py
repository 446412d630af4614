"""What a video looks like, in words: prompts over time, and the networks that read them.

The nano tier reads with the packaged sentence-embedding model, the full tier with CLIP's text encoder as Stable
Diffusion 1.5 does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from magictalk.errors import MissingDependencyError, StyleError, WeightsError
from magictalk.motion import FPS

CHANGE_S = 1.0
"""Seconds in which one prompt becomes the next."""
NANO_TOKENS = 32
"""Tokens of a prompt that the nano tier reads, two of which are its beginning and end."""
_START = re.compile(r"(?:(\d+):)?(\d+(?:\.\d+)?)\s*s?\s+(\S.*)")


class TextEncoder(Protocol):
    """Reads prompts."""

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Tokens ``[n, L, D]``."""
        ...

    def cut(self, text: str) -> str:
        """What of a prompt lies over the limit and is not read; empty where all of it is."""
        ...


@dataclass(frozen=True)
class Prompts:
    """What a video looks like, over time.

    Attributes:
        times: seconds at which each begins, rising from 0.
        texts: the prompts.
    """

    times: tuple[float, ...]
    texts: tuple[str, ...]

    @staticmethod
    def parse(text: str) -> Prompts:
        """One prompt, or several: ``"0s a young woman; 4s an old woman"``.

        Raises:
            StyleError: when it is empty, or its times are not in order from 0.
        """
        parts = [part.strip() for part in text.split(";") if part.strip()]
        if not parts:
            raise StyleError("prompt is empty; expected what is to be seen, such as 'a woman with grey hair'")
        found = [_START.fullmatch(part) for part in parts]
        if len(parts) == 1 and not found[0]:
            return Prompts((0.0,), (parts[0],))
        wrong = next((part for part, match in zip(parts, found, strict=True) if not match), None)
        if wrong is not None:
            raise StyleError(f"prompt {wrong!r} has no time; expected such as '0s a young woman; 4s an old woman'")
        times = tuple(60 * float(m[1] or 0) + float(m[2]) for m in found if m)
        if times[0] != 0 or any(a >= b for a, b in pairwise(times)):
            raise StyleError(f"prompts begin at {', '.join(f'{t:g}' for t in times)} s; expected times rising from 0")
        return Prompts(times, tuple(m[3] for m in found if m))

    def shares(self, first: int, last: int) -> Tensor:
        """How much each prompt counts in each frame from one number to another, ``[n, prompts]``; rows sum to 1."""
        seconds = np.arange(first, last) / FPS
        here = [((seconds - t) / CHANGE_S + 0.5).clip(0, 1) if t else np.ones(len(seconds)) for t in self.times]
        gone = [*here[1:], np.zeros(len(seconds))]
        shares = torch.from_numpy(np.stack(here, -1) - np.stack(gone, -1)).float().clamp(min=0)
        return shares / shares.sum(-1, keepdim=True)


def blend_tokens(tokens: Tensor, shares: Tensor) -> Tensor:
    """Tokens ``[n, L, D]`` of frames, from the prompts' ``[prompts, L, D]`` and their shares ``[n, prompts]``."""
    return torch.einsum("np,pld->nld", shares.to(tokens), tokens)


class SentenceText:
    """The packaged sentence-embedding model's view of each token, 384 numbers; zeros behind the end.

    Raises:
        MissingDependencyError: when the model's package is not installed.
    """

    width = 384

    def __init__(self) -> None:
        from magictalk.prompt import load_sentence_model

        self._tokenizer, self._network = load_sentence_model()
        self._tokenizer.enable_truncation(NANO_TOKENS)
        self._tokenizer.enable_padding(length=NANO_TOKENS)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Tokens ``[n, 32, 384]``."""
        read = self._tokenizer.encode_batch(list(texts))
        tokens, mask = (torch.tensor([getattr(e, name) for e in read]) for name in ("ids", "attention_mask"))
        with torch.inference_mode():
            states: Tensor = self._network(tokens, attention_mask=mask).last_hidden_state
        return states.clone() * mask[..., None]

    def cut(self, text: str) -> str:
        """What of a prompt is not read."""
        read = self._tokenizer.encode(text)
        return text[read.offsets[NANO_TOKENS - 2][1] :].strip() if read.overflowing else ""


class ClipText:
    """CLIP's text encoder, as Stable Diffusion 1.5 reads prompts: 77 tokens of 768 numbers.

    Args:
        folder: holds ``tokenizer`` and ``text_encoder`` as diffusers writes them.

    Raises:
        MissingDependencyError: when transformers is not installed.
        WeightsError: when the folder does not hold them.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from transformers import CLIPTextModel, CLIPTokenizer
        except ImportError as error:
            raise MissingDependencyError(
                f"the full tier needs transformers, which cannot be imported ({error}); pip install 'magictalk[prompt]'"
            ) from error
        try:
            self._tokenizer: Any = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
            self._network: Any = CLIPTextModel.from_pretrained(
                folder / "text_encoder", local_files_only=True, use_safetensors=True
            ).eval()
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise WeightsError(f"no CLIP text encoder and tokenizer in {folder} ({reason})") from error
        self.width = int(self._network.config.hidden_size)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Tokens ``[n, L, D]``."""
        read = self._tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=self._limit, return_tensors="pt"
        )
        with torch.inference_mode():
            states: Tensor = self._network(read.input_ids.to(self._network.device)).last_hidden_state
        return states.clone()

    def cut(self, text: str) -> str:
        """What of a prompt is not read."""
        places = self._tokenizer(text, return_offsets_mapping=True).offset_mapping
        return text[places[self._limit - 2][1] :].strip() if len(places) > self._limit else ""

    @property
    def _limit(self) -> int:
        return int(self._network.config.max_position_embeddings)
