"""MCDM's network: a clip of video out of noise, led by what came before and by motion tokens (section 3.1).

In each transformer block self-attention is followed by two reference attentions in parallel, to the archived clip and
to the present motion, and those by memory-efficient temporal attention, which goes on with what the two gave.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Literal, cast

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import SinusoidalPositionalEmbedding
from torch import Tensor, nn

from magictalk.render.diffusion.archive import ArchivedClip, ReferenceUNet
from magictalk.render.diffusion.attention import ObservedAttention, cross_attentions, decouple
from magictalk.render.diffusion.memory import ALPHA, MemoryTemporalAttention, MotionMemory
from magictalk.render.diffusion.reference import Unmoved, folded, motion_unet, noise_of, unfolded

ARCHIVED, PRESENT = "archived", "present"
"""Names of the conditions."""
PRESENT_PARTS = r"(motion\.|places|unet\..*\.attn2\.to_[kv]\.)"
"""Names of the weights of the present-clip reference attention and what feeds it."""
MEMORY_PARTS = r"unet\..*\.motion_modules\."
"""Names of the weights of the memory-efficient temporal attention."""
TOKEN_SPREAD = 1 / 3
"""Standard deviation of the numbers of motion tokens."""
Archived = Literal["aligned", "q-former", "unet", "none"]
"""How the archived clip is read."""
Memory = dict[str, Tensor]
"""What is remembered after a clip, by the layer that does: ``[B S, d]``, S places of a picture."""


class ClipNet(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Predicts the noise in the latents of a clip of as many frames as the archive has.

    Args:
        channels, layers, heads, width, latent_channels, groups, fold, velocity: as in ``ReferenceNet``.
        token, kinds: numbers of a motion token, and kinds of them: head, lips, expression.
        queries: n of the archived clip's tokens a frame.
        patch, tokens: sides, in latents, of what becomes one token of a picture, and how many these are.
        readers: heads of the frame-aligned attention.
        features: random features of the temporal attention.
        archived: ``"aligned"`` as in the paper; ``"q-former"`` and ``"unet"`` are its variants (table 5), ``"none"``
            leaves the archived clip out.
        memory: False has the temporal attention of others in the memory-efficient one's place (table 4).
    """

    @register_to_config
    def __init__(
        self,
        channels: tuple[int, ...] = (320, 640, 1280, 1280),
        layers: int = 2,
        heads: int = 8,
        width: int = 768,
        latent_channels: int = 4,
        groups: int = 32,
        fold: int = 1,
        velocity: bool = False,
        token: int = 32,
        kinds: int = 3,
        queries: int = 16,
        patch: int = 4,
        tokens: int = 256,
        readers: int = 1,
        features: int = 128,
        archived: Archived = "aligned",
        memory: bool = True,
    ) -> None:
        super().__init__()
        self.unet = motion_unet(
            channels, layers, heads, width, latent_channels, groups, fold, motion_num_attention_heads=heads
        )
        observed = {} if archived == "none" else {ARCHIVED: width}
        decouple(self.unet, PRESENT, observed, kind=ObservedAttention)
        for layer in cross_attentions(self.unet).values():
            nn.init.zeros_(cast(Any, layer).to_v.weight)  # motion changes nothing to begin with
        self.archive: nn.Module | None = None
        if archived == "unet":
            self.archive = ReferenceUNet(latent_channels, channels, groups, width, queries)
        elif archived != "none":
            self.archive = ArchivedClip(
                latent_channels, patch, width, queries, tokens, readers, aligned=archived == "aligned"
            )
        self.motion = nn.Linear(token, width)
        nn.init.normal_(self.motion.weight, std=1 / (TOKEN_SPREAD * token**0.5))  # what is read is of a spread of one
        self.places = nn.Parameter(torch.randn(kinds, width))
        for block in self.unet.modules():
            if hasattr(block, "motion_modules"):
                attentions = getattr(block, "attentions", None)
                block.motion_modules = nn.ModuleList(
                    Unmoved()
                    if attentions is None
                    else MemoryLayer(attentions[i], heads, features)
                    if memory
                    else PlainLayer(attentions[i], heads)
                    for i in range(len(cast(nn.ModuleList, block.motion_modules)))
                )

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor | int,
        reference: Tensor,
        archive: Tensor,
        motion: Tensor,
        memory: Memory | None = None,
        alpha: float = ALPHA,
    ) -> tuple[Tensor, Memory]:
        """The noise ``[B, C, N, h, w]`` in ``latents`` of that shape, and what is remembered after the clip.

        Args:
            latents: of the clip.
            timestep: of the diffusion, one for all or one a video ``[B]``.
            reference: latents of the portrait ``[B, C, h, w]``.
            archive: latents of as many frames before ``[B, N, C, h, w]``; frame i of the clip looks at the i-th.
            motion: tokens of every frame ``[B, N, 3, W]``; zeros say nothing.
            memory: what was remembered after the clip before; nothing before the first.
            alpha: how much of the past is kept from frame to frame.

        Raises:
            ValueError: when the archive has another number of frames than the clip.
        """
        if archive.shape[1] != latents.shape[2]:
            raise ValueError(f"{archive.shape[1]} archived frames for a clip of {latents.shape[2]}; expected as many")
        present = self.motion(motion) + self.places
        conditions = {PRESENT: (present.flatten(0, 1), 1.0)}
        if self.archive is not None:
            conditions[ARCHIVED] = (self.archive(reference, archive).flatten(0, 1), 1.0)
        layers = dict(self.memory_layers())
        for name, layer in layers.items():
            layer.memory = MotionMemory(alpha)
            layer.memory.state = None if memory is None else memory[name]
        fold = self.config["fold"]
        found = self.unet(folded(latents, fold), timestep, conditions, return_dict=False)[0]
        said = unfolded(cast(Tensor, found), fold)
        kept = {name: layer.memory.state for name, layer in layers.items() if layer.memory.state is not None}
        return (noise_of(said, latents, timestep) if self.config["velocity"] else said), kept

    def memory_layers(self) -> Iterator[tuple[str, MemoryLayer]]:
        """The layers that remember, by name."""
        for name, module in self.unet.named_modules():
            if isinstance(module, MemoryLayer):
                yield name, module

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Begin with a ReferenceNet's weights: everything but its motion blocks, its text and its identity."""
        own = self.state_dict()
        shared = [name for name in own if name in weights and not _of_its_own(name)]
        self.load_state_dict(own | {name: weights[name] for name in shared})


def _of_its_own(name: str) -> bool:
    """Whether a weight means another thing here: keys and values of other conditions."""
    return ".processor." in name or ".attn2.to_k." in name or ".attn2.to_v." in name or ".motion_modules." in name


class TemporalLayer(nn.Module, ABC):
    """In a motion block's place: attention along time after a transformer block.

    Args:
        attention: of the block, whose reference attentions are gone on with.
    """

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        (layer,) = cross_attentions(attention).values()
        self._observed = [cast(ObservedAttention, layer.processor)]  # in a list: it is the block's, not this layer's
        self.width = layer.inner_dim

    def forward(self, hidden_states: Tensor, num_frames: int) -> Tensor:
        """Features ``[B N, C, h, w]`` of ``N`` frames; the names are those that diffusers calls motion blocks with."""
        side = hidden_states.shape[-2:]
        found = self._observed[0].found
        present = _along_time(found[PRESENT], num_frames)
        made = self.along_time(_along_time(found[ARCHIVED], num_frames) if ARCHIVED in found else present, present)
        places = side[0] * side[1]
        return hidden_states + made.unflatten(0, (-1, places)).permute(0, 2, 3, 1).flatten(0, 1).unflatten(2, side)

    @abstractmethod
    def along_time(self, archived: Tensor, present: Tensor) -> Tensor:
        """What is added to each frame ``[B S, N, C]``, of what both reference attentions gave, alike in shape."""


class MemoryLayer(TemporalLayer):
    """Memory-efficient temporal attention (section 3.4).

    Args:
        attention: of the block.
        heads: of the temporal attention.
        features: of FAVOR+.
    """

    def __init__(self, attention: nn.Module, heads: int, features: int) -> None:
        super().__init__(attention)
        self.before_present, self.before_memory = nn.LayerNorm(self.width), nn.LayerNorm(self.width)
        self.attention = MemoryTemporalAttention(self.width, heads, features)
        nn.init.zeros_(self.attention.to_out.weight)  # it changes nothing to begin with
        nn.init.zeros_(self.attention.to_out.bias)
        self.memory = MotionMemory()

    def along_time(self, archived: Tensor, present: Tensor) -> Tensor:
        """The memory is updated on the way."""
        return cast(Tensor, self.attention(self.before_present(present), self.before_memory(self.memory(archived))))


class PlainLayer(TemporalLayer):
    """What others do: attention of the frames to one another, on the sum of both (table 4, without MTA).

    Args:
        attention: of the block.
        heads: of the temporal attention.
    """

    def __init__(self, attention: nn.Module, heads: int) -> None:
        super().__init__(attention)
        self.before = nn.LayerNorm(self.width)
        self.places = SinusoidalPositionalEmbedding(self.width)
        self.attention = Attention(self.width, heads=heads, dim_head=self.width // heads)
        out = cast(nn.Linear, self.attention.to_out[0])
        nn.init.zeros_(out.weight)  # it changes nothing to begin with
        nn.init.zeros_(out.bias)

    def along_time(self, archived: Tensor, present: Tensor) -> Tensor:
        """Nothing is remembered."""
        return cast(Tensor, self.attention(self.places(self.before(archived + present))))


def _along_time(features: Tensor, frames: int) -> Tensor:
    """``[B N, S, C]`` to ``[B S, N, C]``."""
    return features.unflatten(0, (-1, frames)).transpose(1, 2).flatten(0, 1)
