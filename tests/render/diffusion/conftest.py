from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL

from magictalk.render.diffusion.animate import AnimateNet
from magictalk.render.diffusion.attention import cross_attentions
from magictalk.render.diffusion.clip_by_clip import ClipByClip
from magictalk.render.diffusion.clips import ClipNet
from magictalk.render.diffusion.reference import ReferenceNet
from magictalk.render.diffusion.schedule import animatediff_scheduler


@pytest.fixture(scope="session")
def tiny() -> dict[str, Any]:
    """Settings of both networks: some ten thousand weights, 8x8 latents of 16x16 pictures."""
    return {"channels": (16, 32), "layers": 1, "heads": 2, "width": 12, "groups": 8}


@pytest.fixture(scope="module")
def reference(tiny: dict[str, Any]) -> ReferenceNet:
    torch.manual_seed(0)
    return ReferenceNet(**tiny, identity_width=10, identity_tokens=2, frames=8, motion_heads=2).eval()


@pytest.fixture(scope="module")
def animate(reference: ReferenceNet, tiny: dict[str, Any]) -> AnimateNet:
    torch.manual_seed(1)
    network = AnimateNet(**tiny, control_channels=(4, 8)).eval()
    network.clone(reference)
    return network


@pytest.fixture
def given() -> dict[str, torch.Tensor]:
    """Two videos of four frames: what ReferenceNet is given."""
    draw = torch.Generator().manual_seed(2)
    shapes = {"latents": (2, 4, 4, 8, 8), "text": (2, 5, 12), "face": (2, 10)}
    return {name: torch.randn(*shape, generator=draw) for name, shape in shapes.items()}


@pytest.fixture
def control() -> dict[str, torch.Tensor]:
    """What AnimateNet is given with them."""
    draw = torch.Generator().manual_seed(3)
    shapes = {"landmarks": (2, 3, 4, 16, 16), "contour": (2, 3, 16, 16)}
    return {name: torch.rand(*shape, generator=draw) * 2 - 1 for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def clip_video(tiny: dict[str, Any]) -> ClipByClip:
    """MCDM's network as after some training, with latents half as large as pictures."""
    torch.manual_seed(0)
    vae: Any = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, latent_channels=4,
    )  # fmt: skip
    network = ClipNet(**tiny, velocity=True, token=5, queries=3, patch=2, tokens=64, features=16)
    for layer in cross_attentions(network.unet).values():
        torch.nn.init.normal_(layer.to_v.weight, std=0.3)  # type: ignore[union-attr]
    for _, memory in network.memory_layers():
        torch.nn.init.normal_(memory.attention.to_out.weight, std=0.3)
    return ClipByClip(vae, network, animatediff_scheduler())
