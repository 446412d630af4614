"""How much noise there is at each step of the diffusion."""

from __future__ import annotations

from functools import cache
from typing import Any, cast

from diffusers import DDIMScheduler
from torch import Tensor


def animatediff_scheduler() -> DDIMScheduler:
    """DDIM as AnimateDiff's motion blocks want it; another schedule blurs."""
    return DDIMScheduler(
        beta_schedule="linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        timestep_spacing="linspace",
        steps_offset=1,
    )


@cache
def alphas() -> Tensor:
    """Products of alphas ``[1000]``: shares of the latents' power that are left at each step."""
    return cast(Tensor, cast(Any, animatediff_scheduler()).alphas_cumprod)
