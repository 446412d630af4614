import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import dlib
import numpy as np
import pytest
from scipy.ndimage import zoom

from magictalk.errors import MissingDependencyError
from magictalk.face import recognition
from magictalk.face.landmarks import FaceDetector
from magictalk.face.recognition import SAME_PERSON, FaceRecogniser


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


@pytest.fixture(scope="module")
def recogniser() -> FaceRecogniser:
    return FaceRecogniser()


def _mesh(detector: FaceDetector, image: np.ndarray) -> np.ndarray:
    return max(detector(image), key=lambda face: face.box[2]).landmarks


def _by_dlib(image: np.ndarray) -> np.ndarray:
    """dlib's whole pipeline: its detector, its five points, its network."""
    models = Path(find_spec("face_recognition_models").submodule_search_locations[0]) / "models"
    shape = dlib.shape_predictor(str(models / "shape_predictor_5_face_landmarks.dat"))
    network = dlib.face_recognition_model_v1(str(models / "dlib_face_recognition_resnet_model_v1.dat"))
    (box,) = dlib.get_frontal_face_detector()(image, 0)
    return np.array(network.compute_face_descriptor(image, shape(image, box)))


def test_embeddings_are_those_of_dlibs_own_pipeline(
    detector: FaceDetector, recogniser: FaceRecogniser, astronaut: np.ndarray
) -> None:
    embedding = recogniser(astronaut, _mesh(detector, astronaut))
    assert embedding.shape == (128,) and embedding.dtype == np.float32
    assert np.linalg.norm(embedding - _by_dlib(astronaut)) < 0.15


def test_real_portraits_too(detector: FaceDetector, recogniser: FaceRecogniser, shared: Path) -> None:
    from PIL import Image

    for name in ("AniPortrait__Aragaki.png", "LivePortrait__s9.jpg", "hallo3__0001.jpg", "dreamtalk__zt12.png"):
        image = np.array(Image.open(shared / "portraits" / name).convert("RGB"))
        assert np.linalg.norm(recogniser(image, _mesh(detector, image)) - _by_dlib(image)) < 0.25


def test_one_person_is_near_and_another_far(
    detector: FaceDetector, recogniser: FaceRecogniser, astronaut: np.ndarray, shared: Path
) -> None:
    from PIL import Image

    here = recogniser(astronaut, _mesh(detector, astronaut))
    smaller = np.ascontiguousarray(astronaut[::2, 40:440:2])
    darker = np.ascontiguousarray(np.rot90((astronaut * 0.6).astype(np.uint8)[:, ::-1]))
    for image in (smaller, darker[:, ::-1].copy()):
        assert np.linalg.norm(recogniser(image, _mesh(detector, image)) - here) < SAME_PERSON
    other = np.array(Image.open(shared / "portraits" / "AniPortrait__Aragaki.png").convert("RGB"))
    assert np.linalg.norm(recogniser(other, _mesh(detector, other)) - here) > SAME_PERSON


def test_a_face_that_leaves_the_picture_or_is_large_is_no_trouble(
    detector: FaceDetector, recogniser: FaceRecogniser, astronaut: np.ndarray
) -> None:
    mesh = _mesh(detector, astronaut)
    whole = recogniser(astronaut, mesh)
    left = int(mesh[:, 0].mean())
    assert np.isfinite(recogniser(astronaut[:, left:], mesh - [left, 0, 0])).all()
    large = zoom(astronaut[:300, 100:400], (4, 4, 1), order=1)
    assert np.linalg.norm(recogniser(large, 4 * (mesh - [100, 0, 0])) - whole) < 0.2


def test_what_is_missing_is_said_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognition, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"face_recognition_models.*pip install 'magictalk\[data\]'"):
        FaceRecogniser()
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(MissingDependencyError, match=r"needs dlib.*pip install 'magictalk\[data\]'"):
        FaceRecogniser()


def test_importing_the_module_does_not_load_dlib() -> None:
    code = "import sys, magictalk.face.recognition; sys.exit('dlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
