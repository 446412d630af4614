"""AnimateNet: how the face moves, and what it keeps (MAGIC-Talk, section 3.2; PortraitTalk, section III-B).

A clone of ReferenceNet's encoder in the manner of ControlNet: control layers take in pictures, convolutions that begin
at zero hand the result to ReferenceNet's skip connections. The pictures are

* landmarks, one a frame: structure;
* a contour: the portrait's, one a clip (MAGIC-Talk), or the head's in the frame before (PortraitTalk's identity);
* with PortraitTalk, the frame before itself: what is temporal.

Each has keys and values of its own in every cross-attention (equation 2 of both papers).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from diffusers import ConfigMixin, ControlNetModel, ModelMixin
from diffusers.configuration_utils import register_to_config
from numpy.typing import NDArray
from torch import Tensor, nn

from magictalk.render.diffusion.attention import DecoupledAttention, Weights, cross_attentions, decouple
from magictalk.render.diffusion.reference import ReferenceNet, folded

LANDMARKS, CONTOUR, PREVIOUS = "landmarks", "contour", "previous"
"""Names of the conditions."""
Control = tuple[tuple[Tensor, ...], Tensor]
"""What is added to the skip connections, and to the middle: ``[B N, C, h, w]`` each."""


class AnimateNet(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """What landmarks and contour add to ReferenceNet's features; nothing, before training.

    The defaults fit ReferenceNet's.

    Args:
        channels, layers, heads, width, latent_channels, groups, fold: as in :class:`ReferenceNet`.
        control_channels: of the layers that bring control pictures to the folded latents' size; all but one halve it.
        patch: sides, in folded latents, of what becomes one token of a control picture.
        contour: False leaves the contour out (table 2 of both papers).
        previous: the frame before is a condition too, as PortraitTalk wants it.
    """

    _supports_gradient_checkpointing = True

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
        control_channels: tuple[int, ...] = (16, 32, 96, 256),
        patch: int = 4,
        contour: bool = True,
        previous: bool = False,
    ) -> None:
        super().__init__()
        attending = len(channels) - 1
        names = (LANDMARKS, *([CONTOUR] if contour else []), *([PREVIOUS] if previous else []))
        net = ControlNetModel(
            in_channels=latent_channels * fold**2,
            conditioning_channels=3 * len(names),
            down_block_types=("CrossAttnDownBlock2D",) * attending + ("DownBlock2D",),
            block_out_channels=channels,
            layers_per_block=layers,
            norm_num_groups=groups,
            cross_attention_dim=width,
            attention_head_dim=heads,
            conditioning_embedding_out_channels=control_channels,
        )
        # it too begins at zero in diffusers; of two layers at zero in a row neither learns soon
        cast(Any, net).controlnet_cond_embedding.conv_out.reset_parameters()
        self.net = cast(nn.Module, net)
        self.tokens = nn.ModuleDict({name: _Tokens(control_channels, width, patch) for name in names})
        decouple(self.net, LANDMARKS, {name: width for name in names[1:]}, learned=True)

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor | int,
        text: Tensor,
        landmarks: Tensor,
        contour: Tensor,
        weights: Weights | None = None,
        previous: Tensor | None = None,
    ) -> Control:
        """What is added to ReferenceNet's features.

        Args:
            latents: ``[B, C, N, h, w]``.
            timestep: of the diffusion, one for all or one a video ``[B]``.
            text: not used; how it looks is ReferenceNet's to know. :class:`ControlPair` needs it.
            landmarks: pictures ``[B, 3, N, H, W]``, -1..1.
            contour: a picture ``[B, 3, H, W]``, -1..1, the same in all frames, or one a frame as ``landmarks``.
            weights: of the conditions, by name, times what was learned; of weight 0, a picture is not looked at.
            previous: the frame before each, as ``landmarks``, where that is a condition.

        Raises:
            ValueError: when it is a condition and is not given.
        """
        del text
        frames = latents.shape[2]
        given = {LANDMARKS: landmarks, CONTOUR: contour, PREVIOUS: previous}
        each: dict[str, Tensor] = {}
        tokens: dict[str, Tensor] = {}
        for name, network in self.tokens.items():
            picture = given[name]
            if picture is None:
                raise ValueError(f"no pictures of {name}; expected [B, 3, N, H, W]")
            if (weights or {}).get(name, 1.0) == 0:
                picture = torch.zeros_like(picture)
            constant = picture.ndim == 4
            picture = picture if constant else picture.transpose(1, 2).flatten(0, 1)
            each[name], tokens[name] = (
                part.repeat_interleave(frames, 0) if constant else part for part in (picture, network(picture))
            )
        down, middle = self.net(
            folded(latents, self.config["fold"]).transpose(1, 2).flatten(0, 1),
            _each_frame(timestep, frames),
            {name: (found, (weights or {}).get(name, 1.0)) for name, found in tokens.items()},
            torch.cat(list(each.values()), 1),
            return_dict=False,
        )
        return tuple(down), middle

    def clone(self, reference: ReferenceNet) -> None:
        """Begin with the weights of ReferenceNet's encoder; what only control needs keeps its own.

        Raises:
            RuntimeError: when the two do not fit.
        """
        given = reference.unet.state_dict()
        own = self.net.state_dict()
        taken = {
            name: given[name]
            for name in own
            if name.startswith(("conv_in.", "time_embedding.", "down_blocks.", "mid_block."))
            and ".processor." not in name
        }
        self.net.load_state_dict(own | taken)
        for layer in cross_attentions(self.net).values():  # contours are asked as landmarks are, to begin with
            processor = cast(DecoupledAttention, layer.processor)
            for own_layer, others in ((layer.to_k, processor.to_k), (layer.to_v, processor.to_v)):
                for other in others.values():
                    other.load_state_dict(own_layer.state_dict())


class ControlPair(nn.Module):
    """Two public ControlNets in AnimateNet's place: ``w_1`` of the landmarks' and ``w_2`` of the contour's.

    Args:
        landmarks: such as CrucibleAI's ControlNetMediaPipeFace.
        contour: such as lllyasviel's control_v11p_sd15_canny.
    """

    def __init__(self, landmarks: nn.Module, contour: nn.Module) -> None:
        super().__init__()
        self.landmarks, self.contour = landmarks, contour

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor | int,
        text: Tensor,
        landmarks: Tensor,
        contour: Tensor,
        weights: Weights | None = None,
        previous: Tensor | None = None,
    ) -> Control:
        """As :meth:`AnimateNet.forward`; ``text`` are tokens ``[B, L, D]`` or ``[B, N, L, D]``.

        Control pictures are -1..1 as everywhere here; the public networks get 0..1, and look at no frame before.
        """
        del previous
        frames = latents.shape[2]
        tokens = text if text.ndim == 4 else text[:, None].expand(-1, frames, -1, -1)
        pictures = landmarks.transpose(1, 2).flatten(0, 1), contour.repeat_interleave(frames, 0)
        sums: list[Tensor] = []
        for name, network, picture in zip((LANDMARKS, CONTOUR), (self.landmarks, self.contour), pictures, strict=True):
            down, middle = network(
                latents.transpose(1, 2).flatten(0, 1),
                _each_frame(timestep, frames),
                tokens.flatten(0, 1),
                (picture + 1) / 2,
                conditioning_scale=(weights or {}).get(name, 1.0),
                return_dict=False,
            )
            sums = [a + b for a, b in zip(sums, (*down, middle), strict=True)] if sums else [*down, middle]
        return tuple(sums[:-1]), sums[-1]


def as_control(picture: NDArray[np.uint8]) -> Tensor:
    """A picture ``[H, W, 3]`` as the networks take it, ``[3, H, W]``, -1..1."""
    return torch.from_numpy(picture).permute(2, 0, 1) / 127.5 - 1


def edges_as_control(edges: NDArray[np.bool_]) -> Tensor:
    """Edges ``[H, W]`` as white lines on black ``[3, H, W]``, -1..1."""
    return torch.from_numpy(edges.astype(np.float32) * 2 - 1).expand(3, -1, -1)


def _each_frame(timestep: Tensor | int, frames: int) -> Tensor | int:
    """Timesteps of videos ``[B]`` to those of their frames ``[B N]``; one for all stays one."""
    several = isinstance(timestep, Tensor) and timestep.ndim
    return cast(Tensor, timestep).repeat_interleave(frames, 0) if several else timestep


class _Tokens(nn.Module):
    """Control pictures ``[B, 3, H, W]`` to tokens ``[B, L, D]``, a patch of latents each."""

    def __init__(self, channels: tuple[int, ...], width: int, patch: int) -> None:
        super().__init__()
        steps: list[nn.Module] = [nn.Conv2d(3, channels[0], 3, padding=1), nn.SiLU()]
        for a, b in pairwise(channels):
            steps += [nn.Conv2d(a, b, 3, stride=2, padding=1), nn.SiLU()]
        self.layers = nn.Sequential(*steps, nn.Conv2d(channels[-1], width, patch, stride=patch))

    def forward(self, picture: Tensor) -> Tensor:
        found = self.layers(picture).flatten(2).mT  # [B, L, D]
        return cast(Tensor, found + _places(found))


def _places(tokens: Tensor) -> Tensor:
    """Sines and cosines that tell tokens ``[B, L, D]`` of a square picture where they are, ``[L, D]``."""
    side, width = round(tokens.shape[1] ** 0.5), tokens.shape[2]
    frequencies = 100.0 ** -torch.arange(0, 1, 4 / width, device=tokens.device)
    angles = torch.arange(side, device=tokens.device)[:, None] * frequencies
    one = torch.cat([angles.sin(), angles.cos()], -1)  # [side, D / 2]
    return torch.cat([one[:, None].expand(-1, side, -1), one[None].expand(side, -1, -1)], -1).flatten(0, 1).to(tokens)
