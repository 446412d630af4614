"""The archived-clip motion prior: what came long before, as few tokens (MCDM, section 3.2)."""

from __future__ import annotations

from typing import Any, cast

import torch
from diffusers import UNet2DModel
from torch import Tensor, nn

SURE = 10.0
"""How far above others, in logits, the place stands that a query begins by looking at."""


class ArchivedClip(nn.Module):
    """Reference and archived frames to tokens of how the face has moved and who it is.

    Args:
        latent_channels: of the autoencoder, which stays frozen.
        patch: sides, in latents, of what becomes one token.
        width: d of the tokens.
        queries: n of the learnable queries.
        tokens: m a frame; the paper's 256 are 64 x 64 latents in patches of 4 x 4.
        heads: of the frame-aligned attention.
        aligned: False has a Q-Former in frame-aligned attention's place (the paper's table 5, B1).
    """

    def __init__(
        self, latent_channels: int = 4, patch: int = 4, width: int = 768, queries: int = 16, tokens: int = 256,
        heads: int = 1, aligned: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        # as in a vision transformer: without places, queries could tell patches by what they show alone
        self.places = nn.Parameter(torch.randn(tokens, width))
        self.reference = _Patchify(latent_channels, width, patch)
        self.archive = _Patchify(latent_channels, width, patch)
        self.attention = (
            FrameAlignedAttention(width, queries, heads, self.places) if aligned else QFormer(width, queries)
        )

    def forward(self, reference: Tensor, archive: Tensor) -> Tensor:
        """``F_ac [B, a, n, d]``.

        Args:
            reference: its latents ``[B, C, h, w]``.
            archive: those of archived frames ``[B, a, C, h, w]``.
        """
        frames = archive.shape[1]
        archived = (self.archive(archive.flatten(0, 1)) + self.places).unflatten(0, (-1, frames))
        return cast(Tensor, self.attention(self.reference(reference) + self.places, archived))


class FrameAlignedAttention(nn.Module):
    """Learnable queries that look in the reference for where to read each archived frame (equations 1 and 2).

    Args:
        width: d.
        queries: n.
        heads: 1 is the paper's. A query weights the picture once a head: a small network reads more of it with more.
        places: of a picture's tokens ``[m, d]``: queries begin by looking there, each head of each at one of its own.
    """

    def __init__(self, width: int, queries: int, heads: int = 1, places: Tensor | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.queries = nn.Parameter(torch.randn(queries, width) / width**0.5)
        self.to_k = nn.Linear(width, width, bias=False)
        self.to_v = nn.Linear(width, width, bias=False)
        if places is not None:
            nn.init.eye_(self.to_k.weight)
            at = _spread(len(places), queries * heads)
            codes = places.detach().unflatten(1, (heads, -1))[at, torch.arange(heads).repeat(queries)]
            surely = SURE / codes.shape[-1] ** 0.5  # a code's product with itself is as large as it has numbers
            self.queries.data = surely * codes.unflatten(0, (queries, heads)).flatten(1)

    def forward(self, reference: Tensor, archive: Tensor) -> Tensor:
        """``F_ac [B, a, n, d]``.

        Args:
            reference: its tokens ``F_x [B, m, d]``.
            archive: those of archived frames ``F_a [B, a, m, d]``.
        """
        k = self._split(self.to_k(reference)[:, None])  # K_i = F_x W_K, the same for each frame (1)
        v = self._split(self.to_v(archive))  # V_i = F_a_i W_V (1)
        q = self._split(self.queries).expand(*v.shape[:2], -1, -1, -1)
        found = nn.functional.scaled_dot_product_attention(q, k.expand(-1, v.shape[1], -1, -1, -1), v)  # (2)
        return found.transpose(-3, -2).flatten(-2)

    def _split(self, tokens: Tensor) -> Tensor:
        """``[..., L, d]`` to ``[..., heads, L, d / heads]``."""
        return tokens.unflatten(-1, (self.heads, -1)).transpose(-3, -2)


def _spread(tokens: int, count: int) -> Tensor:
    """So many places of a square picture of tokens, in an order in which those that follow each other are near (Morton
    1966): each query reads a part of the picture."""
    side = round(tokens**0.5)
    bits = range(max(1, side - 1).bit_length())
    order = sorted(range(tokens), key=lambda i: sum(
        ((i % side >> bit) & 1) << 2 * bit | ((i // side >> bit) & 1) << (2 * bit + 1) for bit in bits
    ))  # fmt: skip
    return torch.tensor([order[i * tokens // count] for i in range(count)])


class QFormer(nn.Module):
    """Learnable queries that read reference and archived frame alike (BLIP-2; the paper's table 5, B1).

    Args:
        width: d.
        queries: n.
        layers: each self-attention of the queries, attention to what they read, and two linear layers.
        heads: of the attentions.
    """

    def __init__(self, width: int, queries: int, layers: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(queries, width) / width**0.5)
        block = nn.TransformerDecoderLayer(width, heads, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerDecoder(block, layers)

    def forward(self, reference: Tensor, archive: Tensor) -> Tensor:
        """``F_ac [B, a, n, d]``; arguments as of :class:`FrameAlignedAttention`."""
        batch, frames = archive.shape[:2]
        read = torch.cat([reference[:, None].expand(-1, frames, -1, -1), archive], 2).flatten(0, 1)
        found = self.blocks(self.queries.expand(len(read), -1, -1), read)
        return cast(Tensor, found).unflatten(0, (batch, frames))


class ReferenceUNet(nn.Module):
    """A UNet that reads the reference; archived frames are not looked at (Hu 2024; the paper's table 5, B2).

    Args:
        latent_channels: of the autoencoder.
        channels: of each level.
        groups: of the normalisations.
        width: d of the tokens.
        queries: n, a square number: so many places of what the UNet says become tokens.
    """

    def __init__(self, latent_channels: int, channels: tuple[int, ...], groups: int, width: int, queries: int) -> None:
        super().__init__()
        self.side = round(queries**0.5)
        self.unet: Any = cast(Any, UNet2DModel)(
            in_channels=latent_channels, out_channels=width, block_out_channels=channels, layers_per_block=1,
            norm_num_groups=groups, down_block_types=("DownBlock2D",) * len(channels),
            up_block_types=("UpBlock2D",) * len(channels), add_attention=False,
        )  # fmt: skip

    def forward(self, reference: Tensor, archive: Tensor) -> Tensor:
        """Tokens ``[B, a, n, d]``, the same for each frame; arguments as of :class:`ArchivedClip`."""
        found = cast(Tensor, self.unet(reference, 0, return_dict=False)[0])
        tokens = nn.functional.adaptive_avg_pool2d(found, self.side).flatten(2).mT
        return tokens[:, None].expand(-1, archive.shape[1], -1, -1)


class _Patchify(nn.Module):
    """Latents ``[B, C, h, w]`` to tokens ``[B, m, d]``: a convolution, flattened."""

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, patch, stride=patch)

    def forward(self, latents: Tensor) -> Tensor:
        return cast(Tensor, self.conv(latents)).flatten(2).mT
