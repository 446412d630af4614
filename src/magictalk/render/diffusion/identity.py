"""Who is seen, from one or several pictures, of one person or between two (PortraitTalk, sections III-A and IV-I).

The background is taken out of each picture before the recogniser looks at it. Pictures of one person become tokens one
after another; between two people there is a path, along which an identity can also move during a clip.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from skimage.transform import estimate_transform
from torch import Tensor

from magictalk.errors import OptionError
from magictalk.face.person import person_mask
from magictalk.motion import FPS
from magictalk.portrait import Portrait

Embed = Callable[[NDArray[np.uint8], NDArray[np.float32]], Tensor]
"""A picture and its mesh to the embedding ``[E]`` of who it is."""

GREY = 128
"""What stands in the background's place."""
_TIMED = re.compile(r"(\d+(?:\.\d+)?)\s*s\s+(\S+)")


@dataclass(frozen=True)
class Blend:
    """How much of the second person there is, over time.

    Attributes:
        times: seconds, rising from 0.
        shares: 0..1 at each; between two it goes evenly.
    """

    times: tuple[float, ...]
    shares: tuple[float, ...]

    @staticmethod
    def parse(text: str) -> Blend:
        """``"0.3"``, or over a clip ``"0s 0; 4s 1"``.

        Raises:
            OptionError: when a share is not within 0 and 1, or times are not in order from 0.
        """
        wrong = OptionError(f"blend is {text!r}; expected a share from 0 to 1, or shares over time as '0s 0; 4s 1'")
        parts = [part.strip() for part in text.split(";") if part.strip()]
        found = [_TIMED.fullmatch(part) for part in parts]
        try:
            if len(parts) == 1 and found[0] is None:
                known = [("0", parts[0])]
            else:
                known = [(match[1], match[2]) for match in found if match is not None]
                if not known or len(known) < len(parts):
                    raise wrong
            times, shares = tuple(float(time) for time, _ in known), tuple(float(share) for _, share in known)
        except ValueError as error:
            raise wrong from error
        if times[0] != 0 or any(a >= b for a, b in pairwise(times)) or not all(0 <= share <= 1 for share in shares):
            raise wrong
        return Blend(times, shares)

    def share(self, frame: int) -> float:
        """How much of the second person there is in a frame."""
        return float(np.interp(frame / FPS, self.times, self.shares))


def embedding_of(portrait: Portrait, embed: Embed) -> Tensor:
    """Who is seen ``[E]``, the background taken out."""
    height, width = portrait.image.shape[:2]
    person = cv2.resize(person_mask(portrait.image), (width, height))[..., None]
    alone = (person * portrait.image + (1 - person) * GREY).round().astype(np.uint8)
    return embed(alone, portrait.landmarks)


def likeness(a: Tensor, b: Tensor) -> float:
    """Cosine of two embeddings."""
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


def people(embeddings: Sequence[Tensor], same: float) -> tuple[list[int], list[int]]:
    """Which are the first one and which are not, by cosines of at least ``same`` and below."""
    own = [i for i, e in enumerate(embeddings) if likeness(e, embeddings[0]) >= same]
    return own, [i for i in range(len(embeddings)) if i not in own]


def in_place_of(portrait: Portrait, other: Portrait) -> Portrait:
    """The other one's picture, turned, scaled and moved until its mesh lies on the portrait's, and cut to its size.

    Raises:
        PortraitError: when no face is found there any more.
    """
    height, width = portrait.image.shape[:2]
    laid = estimate_transform("similarity", other.landmarks[:, :2], portrait.landmarks[:, :2])
    image, matrix = other.image, laid.params[:2]
    if laid.scale < 0.5:  # warpAffine has no area filter: shrink first
        image = cv2.resize(image, None, fx=laid.scale, fy=laid.scale, interpolation=cv2.INTER_AREA)
        matrix = matrix * [1 / laid.scale, 1 / laid.scale, 1]
    picture = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return Portrait.from_array(np.asarray(picture, np.uint8), face_box=portrait.face.box)


def between(own: Tensor, other: Tensor, share: float) -> Tensor:
    """Embeddings ``[R, E]`` on the way from one person's ``[R, E]`` to another's ``[R', E]``.

    Each picture's embedding turns towards the other person's mean along the sphere (spherical interpolation) and keeps
    its length; at 0 they are the first person's own, at 1 all are the other's.
    """
    if share == 0:
        return own
    length = own.norm(dim=-1, keepdim=True)
    unit = torch.nn.functional.normalize
    a, b = unit(own, dim=-1), unit(unit(other, dim=-1).mean(0), dim=0)
    angle = (a @ b).clamp(-1, 1).arccos()[:, None]
    way = torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b
    return length * unit(way, dim=-1)
