from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture
def clusters(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("clusters")


def test_windows_are_means_of_half_a_second(clusters: ModuleType) -> None:
    rows = np.arange(30, dtype=np.float32)[:, None] * np.ones(3, np.float32)
    assert np.allclose(clusters.windows(rows), [[5.5] * 3, [17.5] * 3])


def test_the_manifest_names_the_emotion(clusters: ModuleType) -> None:
    assert clusters.emotion_of("emotion=calm strong; actor 01 (male)") == "calm"
    assert clusters.emotion_of("emotion=neutral; actor 02") == "neutral"


def test_neighbours_agree_where_emotions_lie_together(clusters: ModuleType) -> None:
    rng = np.random.default_rng(0)
    emotions, actors = np.repeat(["a", "b"], 40), np.tile(["x", "y"], 40)
    apart = rng.normal(0, 0.1, (80, 4)) + (emotions == "a")[:, None]
    assert clusters.agreement(apart, emotions, actors) == pytest.approx(0.5)  # all, against a half by chance
    assert abs(clusters.agreement(rng.normal(size=(80, 4)), emotions, actors)) < 0.15
