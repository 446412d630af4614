"""Emotion accuracy: is the face's expression the one that was asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from magictalk.errors import OptionError
from magictalk.metrics import networks
from magictalk.metrics.mean import Mean


class EmotionAccuracy(Mean):
    """Share of clips that a classifier given by the user reads as the emotion that was asked for.

    A clip's reading is the class of the largest probability, averaged over its frames.

    Raises:
        NotComputed: the network is not in the folder ``weights``.
    """

    figure = "emotion accuracy"
    higher_is_better = True
    needs = "emotion"

    def __init__(self, weights: str | Path | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.network = networks.script("emotion", weights)
        self.labels: list[str] = json.loads((networks.find("emotion", weights) / "labels.json").read_text())

    def check(self, emotion: str) -> None:
        """Make sure that the classifier knows an emotion.

        Raises:
            OptionError: it does not.
        """
        if emotion not in self.labels:
            raise OptionError(f"emotion {emotion!r}; the classifier knows {', '.join(self.labels)}")

    @torch.inference_mode()
    def update(self, faces: NDArray[np.uint8], emotion: str) -> None:
        """Take a clip's crops of the face ``[T, H, W, 3]``, maybe none, and the emotion asked for, of ``labels``.

        Raises:
            OptionError: the classifier does not know the emotion.
        """
        self.check(emotion)
        if not len(faces):
            return
        logits = torch.cat([self.network(batch / 255) for batch in networks.batches(faces)])
        self.add(float(self.labels[int(logits.softmax(-1).mean(0).argmax())] == emotion))
