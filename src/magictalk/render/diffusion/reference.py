"""ReferenceNet: who it is and how it shall look, as a video diffusion network (MAGIC-Talk, sections 3.1 and 3.3).

Without motion blocks it is PortraitTalk's IdentityNet (section III-A), which takes several pictures of a person.

A Stable Diffusion UNet inflated by motion blocks. Text says how it looks, the embedding of a face recogniser who it
is; each has keys and values of its own in every cross-attention, and their outputs are summed.
"""

from __future__ import annotations

from typing import cast

import torch
from diffusers import ConfigMixin, ModelMixin, UNetMotionModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import IPAdapterFaceIDImageProjection
from torch import Tensor, nn

from magictalk.render.diffusion.attention import Conditions, Weights, decouple
from magictalk.render.diffusion.schedule import alphas

TEXT, IDENTITY = "text", "identity"
"""Names of the conditions."""
IDENTITY_PARTS = r"(identity\.|unet\..*\.attn2\.)"
"""Names of the weights that IdentityNet has of its own over a common ReferenceNet: projection and cross-attentions."""


class ReferenceNet(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Predicts the noise in the latents of a video's frames (equation 1).

    The defaults are the layout of Stable Diffusion 1.5 with AnimateDiff's motion blocks.

    Args:
        channels: of each level; all but the last attend to the conditions.
        layers: residual blocks a level.
        heads: of each attention.
        width: of condition tokens.
        identity_width: of a face's embedding.
        identity_tokens: tokens that a face becomes.
        frames: the most that motion blocks have positions for.
        motion_heads: of their attention.
        latent_channels: of the autoencoder.
        fold: so many latents a side become channels of one place, which makes a network of large latents cheaper.
        groups: of the normalisations.
        velocity: the UNet says ``v = sqrt(a) epsilon - sqrt(1 - a) z`` (Salimans and Ho 2022), from which the noise
            follows: a small network need not carry all of the noise through to see what is behind much of it.
        motion: False leaves the motion blocks out (the paper's table 3).
        unified: text and identity share keys and values (the paper's table 2, "unified attention block").
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        channels: tuple[int, ...] = (320, 640, 1280, 1280),
        layers: int = 2,
        heads: int = 8,
        width: int = 768,
        identity_width: int = 512,
        identity_tokens: int = 4,
        frames: int = 32,
        motion_heads: int = 8,
        latent_channels: int = 4,
        groups: int = 32,
        fold: int = 1,
        velocity: bool = False,
        motion: bool = True,
        unified: bool = False,
    ) -> None:
        super().__init__()
        self.unet = motion_unet(
            channels, layers, heads, width, latent_channels, groups, fold,
            motion_num_attention_heads=motion_heads, motion_max_seq_length=frames,
        )  # fmt: skip
        self.identity = IPAdapterFaceIDImageProjection(identity_width, width, mult=2, num_tokens=identity_tokens)
        if not unified:
            decouple(self.unet, TEXT, {IDENTITY: width})
        if not motion:
            for module in list(self.unet.modules()):
                if hasattr(module, "motion_modules"):
                    module.motion_modules = nn.ModuleList(
                        [Unmoved() for _ in cast(nn.ModuleList, module.motion_modules)]
                    )

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor | int,
        text: Tensor,
        face: Tensor,
        control: tuple[tuple[Tensor, ...], Tensor] | None = None,
        weights: Weights | None = None,
    ) -> Tensor:
        """The noise ``[B, C, N, h, w]`` in ``latents`` of that shape.

        Args:
            latents: of ``N`` frames.
            timestep: of the diffusion, one for all or one a video ``[B]``.
            text: tokens ``[B, L, D]``, or ``[B, N, L, D]`` where frames have prompts of their own.
            face: embedding ``[B, E]`` of who is seen, or ``[B, R, E]`` of several pictures of it.
            control: what AnimateNet adds to the skip connections and to the middle, ``[B N, C', h', w']`` each.
            weights: of the conditions, by name.
        """
        conditions = self.conditions(text, face, latents.shape[2], weights or {})
        down, middle = control or (None, None)
        shared = self.config["unified"]
        fold = self.config["fold"]
        noise = self.unet(
            folded(latents, fold),
            timestep,
            torch.cat([tokens for tokens, _ in conditions.values()], 1) if shared else conditions,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0]
        found = unfolded(cast(Tensor, noise), fold)
        return noise_of(found, latents, timestep) if self.config["velocity"] else found

    def conditions(self, text: Tensor, face: Tensor, frames: int, weights: Weights) -> Conditions:
        """Tokens ``[B N, L, D]`` of both conditions, and their weights."""
        every = text if text.ndim == 4 else text[:, None].expand(-1, frames, -1, -1)
        return {
            TEXT: (every.flatten(0, 1), weights.get(TEXT, 1.0)),
            IDENTITY: (self.identity_tokens(face).repeat_interleave(frames, 0), weights.get(IDENTITY, 1.0)),
        }

    def identity_tokens(self, face: Tensor) -> Tensor:
        """Tokens ``[B, R L, D]`` of embeddings ``[B, E]`` or ``[B, R, E]``: those of each picture after one another."""
        each = face.reshape(-1, face.shape[-1])
        return cast(Tensor, self.identity(each)).reshape(len(face), -1, self.config["width"])


def motion_unet(
    channels: tuple[int, ...], layers: int, heads: int, width: int, latent_channels: int, groups: int, fold: int,
    **motion: int,
) -> nn.Module:  # fmt: skip
    """A Stable Diffusion UNet inflated by motion blocks; all levels but the last attend to conditions.

    Args:
        channels, layers, heads, width, latent_channels, groups, fold: as in :class:`ReferenceNet`.
        motion: settings of the motion blocks, as ``UNetMotionModel`` has them.
    """
    attending = len(channels) - 1
    unet = UNetMotionModel(
        in_channels=latent_channels * fold**2,
        out_channels=latent_channels * fold**2,
        down_block_types=("CrossAttnDownBlockMotion",) * attending + ("DownBlockMotion",),
        up_block_types=("UpBlockMotion",) + ("CrossAttnUpBlockMotion",) * attending,
        block_out_channels=channels,
        layers_per_block=layers,
        norm_num_groups=groups,
        cross_attention_dim=width,
        num_attention_heads=heads,
        use_motion_mid_block=False,
        **motion,
    )
    return cast(nn.Module, unet)


def noise_of(velocity: Tensor, noisy: Tensor, timestep: Tensor | int) -> Tensor:
    """``epsilon = sqrt(a) v + sqrt(1 - a) x`` of videos ``[B, C, N, h, w]``, in float32."""
    a = alphas().to(noisy.device)[timestep].view(-1, 1, 1, 1, 1)
    return a.sqrt() * velocity.float() + (1 - a).sqrt() * noisy.float()


def without_motion(reference: ReferenceNet) -> ReferenceNet:
    """The same network without its motion blocks: pictures, one by one."""
    still = cast(ReferenceNet, ReferenceNet.from_config(reference.config, motion=False))
    given = reference.state_dict()
    still.load_state_dict({name: given[name] for name in still.state_dict()})
    return still


def folded(latents: Tensor, fold: int) -> Tensor:
    """Videos ``[B, C, N, h, w]`` to ``[B, C f^2, N, h / f, w / f]``: squares of ``fold`` latents a side as one."""
    return nn.functional.pixel_unshuffle(latents.transpose(1, 2), fold).transpose(1, 2) if fold > 1 else latents


def unfolded(latents: Tensor, fold: int) -> Tensor:
    """What :func:`folded` made, back."""
    return nn.functional.pixel_shuffle(latents.transpose(1, 2), fold).transpose(1, 2) if fold > 1 else latents


class Unmoved(nn.Module):
    """In a motion block's place: each frame for itself."""

    def forward(self, hidden_states: Tensor, num_frames: int) -> Tensor:
        del num_frames
        return hidden_states
