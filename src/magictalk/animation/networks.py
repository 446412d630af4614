"""Which render draws what was asked for, and by which networks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from magictalk.animation.made import Generates
from magictalk.errors import OptionError
from magictalk.portrait import Portrait

if TYPE_CHECKING:
    from magictalk.render.diffusion.clip_render import ClipNetworks
    from magictalk.render.diffusion.render import Drawing, Networks


def render_of(who: Portrait, drawing: Drawing, networks: Networks | ClipNetworks | None) -> Generates:
    """What draws so; the embedded tier's networks where none are given."""
    from magictalk.render.diffusion import tiers
    from magictalk.render.diffusion.clip_render import ClipDrawing, ClipNetworks, ClipRender
    from magictalk.render.diffusion.portraits import PortraitDrawing, PortraitRender
    from magictalk.render.diffusion.render import DiffusionRender

    if isinstance(drawing, ClipDrawing) != isinstance(networks, ClipNetworks) and networks is not None:
        raise OptionError("the drawing is of one system and the networks of another; leave the networks out")
    if isinstance(drawing, ClipDrawing):
        return ClipRender(who, drawing, networks if isinstance(networks, ClipNetworks) else clip_networks())
    others = None if isinstance(networks, ClipNetworks) else networks
    if isinstance(drawing, PortraitDrawing):
        return PortraitRender(who, drawing, others or tiers.nano_portrait())
    return DiffusionRender(who, drawing, others or tiers.nano())


def clip_networks(
    network: str | Path | None = None, tokens: str | Path | None = None, history: bool = True
) -> ClipNetworks:
    """The embedded tier of MCDM: the network that draws, and the motion prior's tokens, which it was taught with.

    Args:
        network: a folder, not the package's.
        tokens: of their encoders: a folder, not the package's.
        history: as in :class:`magictalk.render.diffusion.clip_by_clip.ClipByClip`.

    Raises:
        WeightsError: when weights are missing or do not fit.
    """
    from magictalk import weights
    from magictalk.drive.motion_prior import SHIPPED, MotionTokens
    from magictalk.render.diffusion import tiers

    encoders = weights.load(MotionTokens, SHIPPED[0] if tokens is None else tokens).eval()
    return tiers.nano_clips(encoders.encode, tiers.CLIPS if network is None else network, history=history)
