"""Who is it: dlib's face recogniser, fed with the mesh's own eye corners and nose.

The network maps an aligned face to 128 numbers; faces of one person lie near to one another (King, "High Quality
Face Recognition with Deep Metric Learning", dlib blog, 2017: 99.38 % on LFW at a distance of 0.6).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from magictalk.errors import MissingDependencyError

if TYPE_CHECKING:
    from torch import Tensor

SIZE = 128
"""Numbers in an embedding."""

SAME_PERSON = 0.6
"""Euclidean distance below which dlib's author takes two faces for one person's."""

_POINTS = (263, 362, 33, 133, 2)
"""The mesh's counterparts of dlib's five points: the picture's right eye (outer, inner), its left eye, nose base."""

_ARCFACE_POINTS = (468, 473, 4, 61, 291)  # the picture's left and right iris, nose tip, corners of the mouth
_ARCFACE_TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Where ArcFace has these points in its picture of 112 x 112 (Deng et al. 2019, InsightFace's alignment)."""

_MODEL = "dlib_face_recognition_resnet_model_v1.dat"


class FaceRecogniser:
    """Embeddings of faces. Keeps the loaded network; build once, call often (about 0.1 s a face on one core).

    Raises:
        MissingDependencyError: when dlib or its model file is not installed.
    """

    def __init__(self) -> None:
        try:
            import dlib
        except ImportError as error:
            raise MissingDependencyError(
                f"face recognition needs dlib, which cannot be imported ({error}); pip install 'magictalk[data]'"
            ) from error
        self._dlib = dlib
        self._network = dlib.face_recognition_model_v1(str(_model_file()))

    def __call__(self, image: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
        """The embedding ``[128]`` of the face with the mesh ``landmarks [478, 3]`` px in an RGB picture ``[H, W, 3]``.

        Euclidean distances between embeddings count; see ``SAME_PERSON``.
        """
        dlib = self._dlib
        points = [dlib.point(int(x), int(y)) for x, y in np.round(landmarks[list(_POINTS), :2])]
        low, high = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
        box = dlib.rectangle(int(low[0]), int(low[1]), int(high[0]), int(high[1]))
        shape = dlib.full_object_detection(box, dlib.points(points))
        return np.array(self._network.compute_face_descriptor(np.ascontiguousarray(image), shape), np.float32)


def as_identity(embedding: Tensor) -> Tensor:
    """A face's embedding ``[..., E]`` with numbers of about 1 each, as networks take it."""
    from torch.nn.functional import normalize

    return normalize(embedding, dim=-1) * embedding.shape[-1] ** 0.5


def _model_file() -> Path:
    # only looked up: the package's own import needs setuptools, which newer Pythons do not bring
    spec = find_spec("face_recognition_models")
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    for folder in folders:
        path = Path(folder) / "models" / _MODEL
        if path.is_file():
            return path
    raise MissingDependencyError(
        "face recognition needs the model in face_recognition_models, which is not installed; "
        "pip install 'magictalk[data]'"
    )


def aligned(image: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The face ``[112, 112, 3]`` as ArcFace networks are trained on it: a similarity onto five template points."""
    import cv2
    from skimage.transform import estimate_transform

    points = landmarks[list(_ARCFACE_POINTS), :2].astype(np.float64)
    to_template = estimate_transform("similarity", points, _ARCFACE_TEMPLATE)
    return cv2.warpAffine(image, to_template.params[:2], (112, 112), flags=cv2.INTER_LINEAR)
