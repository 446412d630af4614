"""Tiers: the same classes at two sizes, and what fills them.

| | nano | full |
|---|---|---|
| frames | 128 x 128 | 512 x 512 |
| autoencoder, ReferenceNet, AnimateNet | trained by `recipes/magic_talk.sh`, in the package | public checkpoints of Stable Diffusion 1.5's family |
| reads prompts | the packaged sentence-embedding model | CLIP |
| tells who it is | dlib's recogniser | an ArcFace recogniser |
"""  # noqa: E501

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor, nn

from magictalk import weights
from magictalk.face.recognition import FaceRecogniser
from magictalk.render.diffusion.animate import AnimateNet
from magictalk.render.diffusion.denoising import VideoDiffusion, animatediff_scheduler
from magictalk.render.diffusion.reference import ReferenceNet, as_identity
from magictalk.render.diffusion.render import Networks
from magictalk.render.diffusion.text import SentenceText

Tier = Literal["nano", "full"]
NANO_SIDE, FULL_SIDE = 128, 512


def nano(vae: str | Path = "nano-vae", reference: str | Path = "magic-talk-reference",
         animate: str | Path = "magic-talk-animate") -> Networks:  # fmt: skip
    """The embedded tier.

    Args:
        vae, reference, animate: names in the package, or folders.

    Raises:
        MissingDependencyError: when dlib or the sentence-embedding model is not installed.
        WeightsError: when weights are missing or do not fit.
    """
    recogniser = FaceRecogniser()

    def embed(picture: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> Tensor:
        return as_identity(torch.from_numpy(recogniser(picture, landmarks)))

    networks = VideoDiffusion(
        cast(nn.Module, weights.load(AutoencoderKL, vae)),
        weights.load(ReferenceNet, reference),
        weights.load(AnimateNet, animate),
        animatediff_scheduler(),
    )
    return Networks(networks, SentenceText(), embed, NANO_SIDE)
