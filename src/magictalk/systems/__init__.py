"""Systems by name: who and what is said become frames, the same call for each, so that they can be compared."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from magictalk.errors import OptionError
from magictalk.portrait import Portrait
from magictalk.speech import Speech

_SYSTEMS: dict[str, tuple[str, str, dict[str, object]]] = {
    "still": ("still", "StillSystem", {}),
    "audio2bs": ("audio2bs", "Audio2BSSystem", {}),
    "emodiff": ("emodiff", "EmoDiffSystem", {"name": "emodiff"}),
    "emodiff-unrefined": ("emodiff", "EmoDiffSystem", {"name": "emodiff-unrefined", "drive": "emodiff-unrefined"}),
    "emodiff-shuffled": ("emodiff", "EmoDiffSystem", {"name": "emodiff-shuffled", "shuffled": True}),
    "magic-talk": ("magic_talk", "MagicTalkSystem", {"name": "magic-talk", "init": "rig"}),
    "magic-talk-rig": ("rig", "RigSystem", {"name": "magic-talk-rig", "drive": "variational"}),
    "magic-talk-noise": ("magic_talk", "MagicTalkSystem", {"name": "magic-talk-noise", "init": "noise"}),
    "portrait-talk": ("portrait_talk", "PortraitTalkSystem", {"name": "portrait-talk", "init": "rig"}),
    "portrait-talk-noise": ("portrait_talk", "PortraitTalkSystem", {"name": "portrait-talk-noise", "init": "noise"}),
    "mcdm": ("mcdm", "McdmSystem", {"name": "mcdm", "init": "rig"}),
    "mcdm-noise": ("mcdm", "McdmSystem", {"name": "mcdm-noise", "init": "noise"}),
    "mcdm-rig": ("rig", "RigSystem", {"name": "mcdm-rig", "drive": "mcdm"}),
}
"""By name: the file in this folder, the class in it, and what it is made with."""


class System(Protocol):
    """What makes a portrait speak.

    Attributes:
        name: what it is asked for by.
    """

    name: str

    def __call__(self, portrait: Portrait, speech: Speech, seed: int = 0) -> Iterator[NDArray[np.uint8]]:
        """Frames at 25 fps, uint8 RGB ``[H, W, 3]``, as many as the speech is long (``Speech.frame_count``)."""
        ...


def names() -> list[str]:
    """The systems there are."""
    return sorted(_SYSTEMS)


def load_system(name: str) -> System:
    """A system, its networks loaded.

    Raises:
        OptionError: when there is none of that name.
        WeightsError: when its weights are missing.
    """
    if name not in _SYSTEMS:
        raise OptionError(f"no system named {name!r}; expected one of {', '.join(names())}")
    file, kind, options = _SYSTEMS[name]
    system: System = getattr(import_module(f"magictalk.systems.{file}"), kind)(**options)
    return system
