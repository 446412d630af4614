"""A portrait that speaks for minutes, and what is seen of it: shared by the benchmarks of long videos."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from magictalk.face.landmarks import FaceDetector
from magictalk.face.recognition import FaceRecogniser
from magictalk.metrics.functional.identity import cosine
from magictalk.portrait import Portrait
from magictalk.speech import RATE, Speech

TEXT = "People who walk past stop for a moment, smile, and go on their way; the morning is mild."
LARGER = 3
"""Times that frames are enlarged for the landmark network."""


def said(seconds: float) -> Speech:
    """The sentence again and again."""
    voice = Speech.say(TEXT).samples()
    samples = int(seconds * RATE)
    return Speech.from_array(np.tile(voice, samples // len(voice) + 1)[:samples], RATE)


@dataclass(frozen=True)
class Seen:
    """A frame, as it is seen.

    Attributes:
        likeness: to the portrait, the cosine of dlib's embeddings; not a number where there is no face.
        colour: how far the mean colour is from the portrait's, in levels.
        mesh: the face's, ``[478, 2]`` in pixels, if there is one.
    """

    likeness: float
    colour: float
    mesh: NDArray[np.float32] | None


class Watch:
    """Looks at frames of a person.

    Args:
        portrait: who it should be.
    """

    def __init__(self, portrait: Portrait) -> None:
        self._detector, self._recogniser = FaceDetector(), FaceRecogniser()
        self._own = self._recogniser(portrait.image, portrait.landmarks)
        self._colour = portrait.image.mean((0, 1))

    def __call__(self, frame: NDArray[np.uint8]) -> Seen:
        colour = float(np.abs(frame.mean((0, 1)) - self._colour).mean())
        size = frame.shape[1] * LARGER, frame.shape[0] * LARGER
        large = np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC), np.uint8)
        faces = self._detector(large)
        if not faces:
            return Seen(float("nan"), colour, None)
        mesh = faces[0].landmarks
        return Seen(float(cosine(self._recogniser(large, mesh)[None], self._own)[0]), colour, mesh[:, :2] / LARGER)
