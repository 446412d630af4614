"""Likeness to a prompt: CLIP-T."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from magictalk.metrics import networks
from magictalk.metrics.functional.identity import cosine
from magictalk.metrics.mean import Mean


class CLIPT(Mean):
    """Cosine of each frame's CLIP embedding with the prompt's (Radford et al. 2021), mean over frames.

    Raises:
        NotComputed: the network is not in the folder ``weights``.
    """

    figure = "CLIP-T"
    higher_is_better = True
    needs = "clip"

    def __init__(self, weights: str | Path | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.network = networks.pretrained("clip", "AutoModel", weights)
        self.processor = networks.pretrained("clip", "AutoImageProcessor", weights)
        self.tokenizer = networks.pretrained("clip", "AutoTokenizer", weights)

    @torch.inference_mode()
    def update(self, frames: NDArray[np.uint8], text: str) -> None:
        """Take frames ``[T, H, W, 3]`` and the prompt; words after the 77th token are not read."""
        longest = self.network.config.text_config.max_position_embeddings
        words = self.tokenizer(text, return_tensors="pt", truncation=True, max_length=longest)
        for start in range(0, len(frames), 16):
            pixels = self.processor(images=list(frames[start : start + 16]), return_tensors="pt")
            seen = self.network(**words, **pixels)
            self.add(cosine(seen.image_embeds.numpy(), seen.text_embeds[0].numpy()))
