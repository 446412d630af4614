from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture
def ablations(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("ablations")


def test_a_step_at_borders_is_measured_in_steps_inside(ablations: ModuleType) -> None:
    rng = np.random.default_rng(0)
    spread = rng.uniform(0.1, 2, 58)
    clips = []
    for lengths in ([32, 31, 31, 7], [32, 31]):
        steps = np.ones((sum(lengths), 58))
        steps[np.cumsum(lengths)[:-1]] = 3
        motion = np.cumsum(steps * rng.choice([-1, 1], steps.shape), 0) * spread
        clips.append(np.split(motion, np.cumsum(lengths)[:-1]))
    ratios = ablations.border_ratios(clips, spread)
    assert ratios == pytest.approx(dict.fromkeys(("brows", "lids", "lips", "head"), 3.0))


def test_emotions_that_look_different_are_told_apart_and_others_not(ablations: ModuleType) -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.02, (8, 4, 3, 44))
    centres = rng.uniform(0, 1, (8, 1, 1, 44))
    assert ablations.separability(centres + noise) == 1.0
    assert ablations.separability(noise) < 0.4


def test_a_face_that_shows_what_was_asked_is_near_it(ablations: ModuleType) -> None:
    rng = np.random.default_rng(2)
    asked = rng.uniform(0, 1, (8, 4, 44))
    asked[0] = 0
    talking = rng.uniform(0, 0.3, (1, 1, 3, 44))
    assert ablations.nearness(talking + asked[:, :, None], asked) == pytest.approx((1.0, 1.0))
    others = np.roll(asked, 1, axis=1)
    cosine, own = ablations.nearness(talking + others[:, :, None], asked)
    assert cosine < 0.9 and own == 0.0


def test_the_expressions_asked_for_differ_by_person_and_not_between_runs(ablations: ModuleType) -> None:
    asked = ablations.asked_faces()
    assert asked.shape == (8, ablations.PEOPLE, 52) and not asked[0].any()
    assert all(np.abs(asked[1:, a] - asked[1:, b]).max() > 0.05 for a in range(4) for b in range(a))
    assert np.array_equal(asked, ablations.asked_faces())
