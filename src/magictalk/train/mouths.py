"""Mouth pictures that teach the lip-sync expert's eye: rendered ones beside the real, and each spoiled anew."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from magictalk.errors import PortraitError
from magictalk.face.landmarks import FaceDetector
from magictalk.sync import CROP, mouth_crop

Pictures = NDArray[np.uint8]

RENDERED_PX = 60.0
"""Inter-ocular distance at which faces are rendered: a crop's own resolution and some more."""


def render_mouths(
    face: Pictures, landmarks: NDArray[np.float32], coefficients: NDArray[np.float32], detector: FaceDetector
) -> Pictures | None:
    """Mouth pictures ``[T, 64, 80]`` of one person's picture, moved by another's coefficients ``[T, 52]``.

    Args:
        face: uint8 RGB ``[H, W, 3]``, of someone whose licence allows to learn from their pixels.
        landmarks: their mesh ``[478, 3]`` in pixels.
        coefficients: any motion.
        detector: finds the face again once the picture is cut out and scaled.

    Returns:
        None when the face cannot be found again.
    """
    import cv2

    from magictalk.portrait import Portrait
    from magictalk.render.rig import RigRender

    eyes = [landmarks[list(pair), :2].mean(0) for pair in ((33, 133), (362, 263))]
    distance = float(np.linalg.norm(eyes[1] - eyes[0]))
    centre, side = landmarks[:, :2].mean(0), 1.7 * distance
    (x0, y0), (x1, y1) = np.maximum(0, centre - side).astype(int), (centre + side).astype(int)
    cut = face[y0:y1, x0:x1]
    scale = RENDERED_PX / distance
    small = cv2.resize(cut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    try:
        portrait = Portrait.from_array(np.asarray(small, np.uint8), detector=detector)
    except PortraitError:
        return None
    render, still = RigRender(portrait), np.zeros(6, np.float32)
    return np.stack([mouth_crop(render.draw(c, still), portrait.pose) for c in coefficients])


def spoil_pictures(crops: Pictures, rng: np.random.Generator) -> Pictures:
    """Pictures ``[T, 64, 80]`` as another camera, light and tracker would have given them."""
    import cv2

    height, width = CROP
    angle, scale = rng.normal(0, 4), rng.uniform(0.85, 1.18)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale)
    matrix[0, 1] += rng.normal(0, 0.06)
    matrix[:, 2] += rng.normal(0, [2.5, 3.0])
    if rng.random() < 0.5:  # mirrored
        matrix = matrix @ np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1.0]])
    jitter = rng.normal(0, 0.4 * (rng.random() < 0.5), (len(crops), 2))
    coarse = int(rng.integers(20, width)) if rng.random() < 0.4 else width
    gamma, light, gain = rng.uniform(0.6, 1.6), rng.normal(0, 15), rng.uniform(0.6, 1.4)
    tone = np.clip(255 * (np.arange(256) / 255) ** gamma * gain + light, 0, 255).astype(np.uint8)
    noise = rng.uniform(0, 8) * (rng.random() < 0.4)
    quality = int(rng.integers(15, 80)) if rng.random() < 0.3 else None
    out = np.empty_like(crops)
    for i, crop in enumerate(crops):
        matrix_i = matrix.copy()
        matrix_i[:, 2] += jitter[i]
        picture = cv2.warpAffine(crop, matrix_i, (width, height), borderMode=cv2.BORDER_REPLICATE)
        if coarse < width:
            low = cv2.resize(picture, (coarse, coarse * height // width), interpolation=cv2.INTER_AREA)
            picture = cv2.resize(low, (width, height), interpolation=cv2.INTER_LINEAR)
        picture = tone[picture]
        if noise:
            picture = np.clip(picture + rng.normal(0, noise, picture.shape), 0, 255).astype(np.uint8)
        if quality:
            picture = cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 0)
        out[i] = picture
    return out
