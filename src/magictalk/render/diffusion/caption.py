"""What a picture of a person shows, in words: the medium, hair, background and light, measured.

The paper's authors wrote descriptions by hand (MAGIC-Talk, section 4); these are for clips by the hundred, and for
portraits that come without a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from magictalk.motion import ARKIT

BACKGROUNDS = {
    "black": (18, 18, 20), "white": (238, 238, 236), "grey": (128, 128, 128), "red": (176, 40, 42),
    "orange": (228, 134, 46), "yellow": (232, 208, 72), "green": (62, 138, 70), "blue": (50, 92, 182),
    "purple": (118, 62, 150), "pink": (232, 150, 178), "brown": (112, 78, 52), "turquoise": (64, 176, 176),
}  # fmt: skip
"""Names of colours, RGB."""
HAIR = {
    "black": (28, 26, 28), "brown": (84, 60, 46), "blond": (188, 156, 104), "red": (150, 72, 44),
    "grey": (140, 138, 136), "white": (214, 212, 208),
}  # fmt: skip
"""Hair that people have, RGB."""
_SMILE, _DIM, _BRIGHT = 0.3, 70, 175


@dataclass(frozen=True)
class Caption:
    """A description, attribute by attribute; what is empty is not said.

    Attributes:
        medium: such as ``"photograph"`` or ``"pencil drawing"``.
        subject: such as ``"person"``, or what somebody who edits the table writes: ``"young woman with glasses"``.
        expression: such as ``"smiling"``.
        hair, background: colours.
        light: such as ``"warm"``.
    """

    medium: str = "photograph"
    subject: str = "person"
    expression: str = ""
    hair: str = ""
    background: str = ""
    light: str = ""

    def __str__(self) -> str:
        said = [f"a {self.medium} of a {self.expression} {self.subject}".replace("  ", " ")]
        said += [f"with {self.hair} hair"] if self.hair else []
        said += [f"in front of a {self.background} background"] if self.background else []
        said += [f"in {self.light} light"] if self.light else []
        return " ".join(said)


def named(colour: NDArray[np.floating], names: Mapping[str, tuple[int, int, int]]) -> str:
    """The name whose colour is nearest to an RGB one ``[3]``, 0..255, in CIE L*a*b*."""
    table = lab_of(np.array([colour, *names.values()], np.float32)[None])[0]
    return list(names)[int(np.linalg.norm(table[1:] - table[0], axis=1).argmin())]


def hair_of(points: NDArray[np.float32], person: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much each pixel ``[H, W]`` is hair, 0..1: the person beside and above the face, down to below the eyes.

    A cap counts as hair, and so do ears; who is bald has none.

    Args:
        points: mesh ``[478, 2]`` in pixels.
        person: how much each pixel is the person, 0..1.
    """
    face = np.zeros(person.shape, np.uint8)
    cv2.fillConvexPoly(face, cv2.convexHull(np.round(points).astype(np.int32)), 1)
    brows, eyes = points[[105, 334], 1].mean(), points[[33, 263]]
    rows = np.arange(len(face))[:, None]
    here = (face == 0) & (rows < 2 * eyes[:, 1].mean() - brows) & (person > 0.5)
    blur = 0.5 + 0.02 * float(np.linalg.norm(eyes[1] - eyes[0]))
    return np.asarray(gaussian_filter(here.astype(np.float32), blur))


def smile_of(coefficients: NDArray[np.floating]) -> float:
    """How much a face smiles, 0..1, from ARKit's coefficients ``[..., 52]``, in the mean."""
    return float(coefficients[..., [ARKIT.index("mouthSmileLeft"), ARKIT.index("mouthSmileRight")]].mean())


def caption_of(
    picture: NDArray[np.uint8], points: NDArray[np.float32], person: NDArray[np.float32], smile: float
) -> Caption:
    """What an RGB picture ``[H, W, 3]`` shows.

    Args:
        picture: see above.
        points: mesh ``[478, 2]`` in pixels.
        person: how much each pixel ``[H, W]`` is the person, 0..1.
        smile: how much the person smiles, 0..1.
    """

    def colour(where: NDArray[np.bool_]) -> NDArray[np.floating] | None:
        return np.median(picture[where], axis=0) if where.mean() > 0.02 else None

    behind, on_top = colour(person < 0.2), colour(hair_of(points, person) > 0.7)
    low, high = points.min(0).clip(0).astype(int), points.max(0).astype(int)
    level = float(picture[low[1] : high[1], low[0] : high[0]].mean())
    return Caption(
        expression="smiling" if smile > _SMILE else "",
        hair="" if on_top is None else named(on_top, HAIR),
        background="" if behind is None else named(behind, BACKGROUNDS),
        light="dim" if level < _DIM else "bright" if level > _BRIGHT else "",
    )


def lab_of(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """RGB ``[..., 3]``, 0..255, as CIE L*a*b*."""
    flat = np.ascontiguousarray(rgb.reshape(1, -1, 3) / 255, np.float32)
    return np.asarray(cv2.cvtColor(flat, cv2.COLOR_RGB2LAB), np.float32).reshape(rgb.shape)


def rgb_of(lab: NDArray[np.float32]) -> NDArray[np.float32]:
    flat = np.ascontiguousarray(lab.reshape(1, -1, 3), np.float32)
    return np.asarray(cv2.cvtColor(flat, cv2.COLOR_LAB2RGB), np.float32).reshape(lab.shape) * 255
