"""Drives by name: what makes motion from speech, ready to be used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

from magictalk.drive import mix
from magictalk.errors import OptionError
from magictalk.motion import Motion
from magictalk.portrait import Portrait
from magictalk.speech import Speech
from magictalk.style import Style

if TYPE_CHECKING:
    from torch import Tensor

Drive = Literal["emodiff", "emodiff-unrefined", "audio2bs", "variational", "mcdm"]
"""What makes motion from speech."""
UNMOVED = "audio2bs", "variational", "mcdm"
"""Drives that know neither emotions nor guidance."""
Speaker = Callable[[Speech], Iterator[Motion]]
"""A drive, ready to be used."""


def speaker(
    drive: Drive, style: Style | None = None, seed: int = 0, guidance: float | None = None,
    who: Portrait | None = None, head: Motion | None = None,
) -> Speaker:  # fmt: skip
    """A drive by name, its networks loaded.

    Args:
        drive: its name.
        style, seed, guidance: see :func:`animate`.
        who: speaks; only MCDM's motion prior looks at it.
        head: of a driving video, which leads MCDM's motion prior.

    Raises:
        MissingDependencyError: when MCDM's shall look at a person, and dlib is not installed.
        OptionError: when there is none of that name, an option is out of range, or it has no emotions.
        WeightsError: when its weights are missing.
    """
    if drive not in get_args(Drive):
        raise OptionError(f"no drive named {drive!r}; expected {', '.join(get_args(Drive))}")
    if drive in UNMOVED and (style or guidance is not None):
        raise OptionError(f"drive {drive} has no emotions and no guidance; choose emodiff")
    if drive == "audio2bs":
        return partial(mix.speak, seed=seed)
    if drive == "variational":
        from magictalk.drive.variational import VariationalDrive

        return VariationalDrive.load(seed=seed)
    if drive == "mcdm":
        from magictalk.drive.motion_prior import MotionPriorDrive

        return MotionPriorDrive.load(image=None if who is None else _seen(who), driving=head, seed=seed)
    from magictalk.drive.emodiff import GUIDANCE, EmoDiffDrive

    made = EmoDiffDrive.load(
        style, refine=drive == "emodiff", seed=seed, guidance=GUIDANCE if guidance is None else guidance
    )
    if style is None:
        return made
    return partial(_as_lively, made, lips=style.lips, head=style.head)


def _seen(who: Portrait) -> Tensor:
    """What the motion prior is told of a person: dlib's embedding."""
    import torch

    from magictalk.face.recognition import FaceRecogniser, as_identity

    return as_identity(torch.from_numpy(FaceRecogniser()(who.image, who.landmarks)))


def _as_lively(drive: Speaker, speech: Speech, lips: float, head: float) -> Iterator[Motion]:
    for motion in drive(speech):
        yield motion.scale(lips=lips, head=head)
