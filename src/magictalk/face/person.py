"""Where the person is in a picture: MediaPipe's selfie segmentation, bundled with the package."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from magictalk.face.landmarks import mediapipe_solutions, quiet


def person_mask(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How much each part of an RGB picture ``[H, W, 3]`` is a person: float32 ``[256, 256]`` over it, 0..1."""
    small = cv2.resize(image, (256, 256), interpolation=cv2.INTER_AREA)
    solutions = mediapipe_solutions()
    with quiet(), solutions.selfie_segmentation.SelfieSegmentation(model_selection=0) as network:
        return np.asarray(network.process(small).segmentation_mask, np.float32)
