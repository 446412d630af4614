"""MagicTalk: a portrait and a voice become a talking video.

import magictalk
magictalk.animate("me.png", "hello.wav").save("out.mp4")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from magictalk.animation import Animation, animate
    from magictalk.errors import MagicTalkError
    from magictalk.motion import Motion
    from magictalk.portrait import Portrait
    from magictalk.speech import Speech

__version__ = "0.1.0"
__all__ = ["Animation", "MagicTalkError", "Motion", "Portrait", "Speech", "animate"]

_ROOMS = {
    "Animation": "animation",
    "MagicTalkError": "errors",
    "Motion": "motion",
    "Portrait": "portrait",
    "Speech": "speech",
    "animate": "animation",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that ``import magictalk`` costs nothing."""
    if name not in _ROOMS:
        raise AttributeError(f"module 'magictalk' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"magictalk.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
