"""Where the person is in a picture: MediaPipe's selfie segmentation, bundled with the package."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from magictalk.face.landmarks import mediapipe_solutions, quiet


def person_mask(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How much each part of an RGB picture ``[H, W, 3]`` is a person: float32 ``[256, 256]`` over it, 0..1."""
    return next(person_masks([image]))


def person_masks(images: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
    """The same for many pictures, with one network."""
    with PersonSegmenter() as person:
        for image in images:
            yield person(image)


class PersonSegmenter:
    """The network, loaded once; to be closed, or used in a ``with`` statement."""

    def __init__(self) -> None:
        solutions = mediapipe_solutions()
        with quiet():
            self._network = solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As :func:`person_mask`."""
        enlarged = min(image.shape[:2]) < 256
        small = cv2.resize(image, (256, 256), interpolation=cv2.INTER_CUBIC if enlarged else cv2.INTER_AREA)
        with quiet():
            mask = self._network.process(small).segmentation_mask
        return np.asarray(mask, np.float32)

    def __enter__(self) -> PersonSegmenter:
        return self

    def __exit__(self, *error: object) -> None:
        self._network.close()
