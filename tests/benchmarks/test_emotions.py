from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from magictalk.face.rig import Rig
from magictalk.style import EMOTIONS, expression, variant


@pytest.fixture
def emotions(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("emotions")


def _displacements(variants: int, seed: int) -> np.ndarray:
    """What variants of each label move on the mesh, with the tremble of a tracker: [8, variants, 478, 3]."""
    rng, rig = np.random.default_rng(seed), Rig.load()
    faces = [[rng.uniform(0.4, 1.2) * variant(label, rng) for _ in range(variants)] for label in EMOTIONS]
    moved = rig.vertices(np.array(faces, np.float32)) - rig.neutral
    return moved + rng.normal(0, 0.002, moved.shape)


@pytest.mark.parametrize("way", ["nearest", "classifier"])
def test_labels_are_told_from_what_they_move(emotions: ModuleType, way: str) -> None:
    learnt = _displacements(12, 0)
    least = 1.5 * np.linalg.norm(emotions.weigh(learnt[0]), axis=-1).max()
    judge = emotions.Nearest(learnt, least) if way == "nearest" else emotions.Classifier(learnt)
    rig = Rig.load()
    asked = np.stack([rig.vertices(expression(label, 0.8)) - rig.neutral for label in EMOTIONS])
    assert judge(asked).tolist() == list(range(len(EMOTIONS)))
    held = _displacements(6, 1)
    assert emotions._share_known(judge, held) > 0.9
    assert emotions._share_known(judge, held[::-1]) < 0.3


def test_gaze_is_no_expression(emotions: ModuleType) -> None:
    irises = np.zeros((478, 3))
    irises[468:] = 1.0
    assert not emotions.weigh(irises).any()


def test_the_sheet_has_a_row_an_emotion_and_a_column_an_intensity_of_a_face(emotions: ModuleType) -> None:
    tile = np.full((emotions.TILE, emotions.TILE, 3), 90, np.uint8)
    line = [emotions.Render(np.zeros((478, 3)), tile)] * 2 * len(emotions.INTENSITIES)
    sheet = emotions.contact_sheet([line] * len(EMOTIONS), 2)
    pictures = (sheet == 90).all(-1).sum() / emotions.TILE**2
    assert pictures == pytest.approx(len(EMOTIONS) * 2 * len(emotions.INTENSITIES), rel=1e-3)
    assert (sheet < 50).any()  # labels
