"""The archived-clip motion prior: what came long before, as few tokens (MCDM, section 3.2)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn


class ArchivedClip(nn.Module):
    """Reference and archived frames to tokens of how the face has moved and who it is.

    Args:
        latent_channels: of the autoencoder, which stays frozen.
        patch: sides, in latents, of what becomes one token; the paper's m = 256 a frame are 64 x 64 latents by 4.
        width: d of the tokens.
        queries: n of the learnable queries.
    """

    def __init__(self, latent_channels: int = 4, patch: int = 4, width: int = 768, queries: int = 16) -> None:
        super().__init__()
        self.reference = _Patchify(latent_channels, width, patch)
        self.archive = _Patchify(latent_channels, width, patch)
        self.attention = FrameAlignedAttention(width, queries)

    def forward(self, reference: Tensor, archive: Tensor) -> Tensor:
        """``F_ac [B, a, n, d]``.

        Args:
            reference: its latents ``[B, C, h, w]``.
            archive: those of archived frames ``[B, a, C, h, w]``.
        """
        frames = archive.shape[1]
        archived = self.archive(archive.flatten(0, 1)).unflatten(0, (-1, frames))
        return cast(Tensor, self.attention(self.reference(reference), archived))


class FrameAlignedAttention(nn.Module):
    """Learnable queries that look in the reference for where to read each archived frame (equations 1 and 2).

    Args:
        width: d.
        queries: n.
    """

    def __init__(self, width: int, queries: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(queries, width) / width**0.5)
        self.to_k = nn.Linear(width, width, bias=False)
        self.to_v = nn.Linear(width, width, bias=False)

    def forward(self, reference: Tensor, archive: Tensor) -> Tensor:
        """``F_ac [B, a, n, d]``.

        Args:
            reference: its tokens ``F_x [B, m, d]``.
            archive: those of archived frames ``F_a [B, a, m, d]``.
        """
        k = self.to_k(reference)[:, None]  # K_i = F_x W_K, the same for each frame (1)
        v = self.to_v(archive)  # V_i = F_a_i W_V (1)
        q = self.queries.expand(*v.shape[:2], -1, -1)
        return nn.functional.scaled_dot_product_attention(q, k.expand(-1, v.shape[1], -1, -1), v)  # (2)


class _Patchify(nn.Module):
    """Latents ``[B, C, h, w]`` to tokens ``[B, m, d]``: a convolution, flattened."""

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, patch, stride=patch)

    def forward(self, latents: Tensor) -> Tensor:
        return cast(Tensor, self.conv(latents)).flatten(2).mT
