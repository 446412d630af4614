"""Identity: likeness of every frame to the portrait, and its drift over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from magictalk.face.recognition import aligned
from magictalk.metrics import networks
from magictalk.metrics.functional.identity import cosine, drift
from magictalk.metrics.mean import Mean


class FaceSimilarity(Mean):
    """Cosine of each frame's dlib embedding with the portrait's; frames without one (NaN) are left out.

    dlib's embeddings lie close together: of 92 real frames, those of one person have a cosine of 0.98 to 0.996, those
    of strangers one of 0.79 to 0.88 (5th to 95th percentile). Do not compare with figures of other recognisers.
    """

    figure = "Face-sim (dlib)"
    higher_is_better = True

    def update(self, embeddings: ArrayLike, reference: ArrayLike) -> None:
        """Take embeddings ``[T, D]`` of faces and the portrait's ``[D]``."""
        self.add(cosine(embeddings, reference))


class ArcFaceSimilarity(FaceSimilarity):
    """The same with embeddings of :class:`ArcFace`."""

    figure = "Face-sim (ArcFace)"
    needs = "arcface"


class IdentityDrift(Mean):
    """Slope of likeness against time, mean over clips; below 0 the face turns into somebody else's."""

    figure = "identity drift"
    unit = "/min"
    higher_is_better = True

    def update(self, similarities: ArrayLike, fps: float = 25.0) -> None:
        """Take a clip's similarities ``[T]`` to its reference, frame by frame; NaN where there is no face."""
        self.add(drift(similarities, fps))


class DINO(Mean):
    """Cosine of each frame's class token with the portrait's, by DINOv2.

    Raises:
        NotComputed: the network is not in the folder ``weights``.
    """

    figure = "DINO"
    higher_is_better = True
    needs = "dino"

    def __init__(self, weights: str | Path | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.network = networks.pretrained("dino", "AutoModel", weights)
        self.processor = networks.pretrained("dino", "AutoImageProcessor", weights)

    @torch.inference_mode()
    def features(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class tokens ``[T, D]`` of frames ``[T, H, W, 3]``."""
        chunks = (list(frames[i : i + 16]) for i in range(0, len(frames), 16))
        pixels = (self.processor(images=chunk, return_tensors="pt")["pixel_values"] for chunk in chunks)
        return networks.joined(self.network(p).last_hidden_state[:, 0] for p in pixels)

    def update(self, frames: NDArray[np.uint8], reference: NDArray[np.uint8]) -> None:
        """Take frames ``[T, H, W, 3]`` and the portrait ``[H, W, 3]``."""
        self.add(cosine(self.features(frames), self.features(reference[None])[0]))


class ArcFace:
    """Embeddings by an ArcFace network given by the user.

    Raises:
        NotComputed: the network is not in the folder ``weights``.
    """

    def __init__(self, weights: str | Path | None = None) -> None:
        self.network = networks.script("arcface", weights)

    @torch.inference_mode()
    def __call__(self, image: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
        """The embedding ``[D]`` of the face with the mesh ``landmarks [478, 3]`` px in an RGB picture ``[H, W, 3]``."""
        face = next(networks.batches(aligned(image, landmarks)[None]))
        embedding: NDArray[np.float32] = self.network(face / 127.5 - 1)[0].numpy()
        return embedding
